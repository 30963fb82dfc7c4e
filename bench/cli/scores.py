"""Commands about data and scores: check and fetch images, score anew, take what others have scored."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from bench.cli.arguments import between, capability_names, new_command, results_folder, truth_sources, write_text


def add_data(commands) -> argparse.ArgumentParser:
    command = new_command(commands, "data", "check a data folder, or download a data set where its source allows it")
    actions = command.add_subparsers(required=True, dest="action", metavar="ACTION")
    check = actions.add_parser("check", help="what is there, what is missing, fingerprint")
    check.add_argument("folder", type=Path)
    check.add_argument(
        "--image-size",
        type=between(8, 4096, "image size in px"),
        default=256,
        help="px at which defects may vanish (%(default)s)",
    )
    check.add_argument("--reader", help="mvtec, visa or folder; found out unless given")
    check.add_argument("--masks", choices=("read", "none", "inverted"), default="read", help="the reader's option")
    check.add_argument("--json", action="store_true", help="everything, for programs")
    check.add_argument("--stream", type=Path, metavar="OUT.yaml", help="write the stream file that runs on it")
    check.add_argument(
        "--look", type=Path, metavar="OUT.html", help="write a page of images with their masks' outlines"
    )
    order = actions.add_parser("order", help="the test images of a stream in the order of a submission's scores")
    order.add_argument("stream", help="for example mvtec/1x15, or a YAML file")
    order.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    order.add_argument("--plugin", type=Path, action="append", default=[], help="the file of a reader; repeatable")
    get = actions.add_parser("get", help="fetch open images from their authors, laid out as a stream needs them")
    get.add_argument("name", help="for example open, or one class of it: open/cookie")
    get.add_argument("--to", type=Path, required=True, metavar="DIR")
    get.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="copies of the repositories at hand")
    get.add_argument("--accept-licence", action="store_true", help="of each source; without it they are listed")
    sample = actions.add_parser("sample", help="write a small folder as a factory might have one, to try commands on")
    sample.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    download = actions.add_parser("download", help="fetch a data set")
    download.add_argument("name", choices=("mvtec", "visa"))
    download.add_argument("--to", type=Path, default=Path("data"))
    return command


def do_data(options) -> None:
    from bench.data import download

    if options.action == "order":
        from bench.data.listing import order
        from bench.schema.stream import load_stream

        for line in order(load_stream(options.stream), options.data and Path(options.data), options.plugin):
            print(line)
    elif options.action == "check":
        return _check(options)
    elif options.action == "get":
        from bench.data.get import get, got_lines

        got = get(options.name, options.to, options.source, accept_licence=options.accept_licence, progress=_progress)
        print("\n".join(got_lines(got)))
    elif options.action == "sample":
        from bench.data.factory import write_factory

        count = write_factory(options.to)
        print(f"wrote {count} images to {options.to}; next: python -m bench advise --data {options.to}")
    else:
        print(download.download(options.name, options.to))


def _progress(there: int, total: int) -> None:
    if sys.stderr.isatty() or there == total:
        print(f"\r{there} of {total} images", end="\n" if there == total else "", file=sys.stderr)


def _check(options) -> int:
    """Print the report, and write what was asked for; 1 if there are problems."""
    import json

    from bench.data.check import MY_STREAM, check_data
    from bench.data.look import look

    how = {} if options.masks == "read" else {"masks": options.masks}
    report = check_data(options.folder, options.reader, size=options.image_size, options=how)
    if options.stream:
        write_text(options.stream, report.stream_file)
        report.writes, report.command = "", report.command.replace(MY_STREAM, shlex.quote(str(options.stream)))
    print(json.dumps(report.json(), indent=1) if options.json else report)
    if options.look:
        write_text(options.look, look(report, how))
    return int(report.has_problems)


def add_score(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "score", "every metric of a cell anew from its stored scores and maps; runs nothing"
    )
    command.add_argument("cell", help="path of a cell file, or scenario/method+detector/seed-k, with * and ?")
    command.add_argument("--images-only", action="store_true", help="leave pixel metrics empty where there are no maps")
    truth_sources(command)
    results_folder(command, read_only=True)
    return command


def do_score(options) -> None:
    from bench.exchange.rescore import score

    for line in score(options):
        print(line)


def add_submit(commands) -> argparse.ArgumentParser:
    command = new_command(
        commands, "submit", "check somebody's scores for a scenario, score them, enter them as external"
    )
    command.add_argument("folder", type=Path, help="with submission.yaml and scores.npz: see docs/submissions.md")
    truth_sources(command)
    results_folder(command)
    return command


def do_submit(options) -> None:
    from bench.exchange.submission import submit

    for line in submit(options):
        print(line)


def add_worker(commands) -> argparse.ArgumentParser:
    command = new_command(commands, "worker", "let a system in an environment of its own take part, over files")
    actions = command.add_subparsers(required=True, dest="action", metavar="ACTION")
    export = actions.add_parser("export", help="write the images that it may see, step by step")
    export.add_argument("scenario", help="for example mvtec/1x15, or a YAML file")
    export.add_argument("--to", type=Path, required=True, help="a new folder")
    export.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder of the data set")
    export.add_argument("--order", default="published", help="published, alphabetical, reversed or random:SEED")
    export.add_argument(
        "--seed", type=between(0, 2**32 - 1, "seed"), default=0, help="that it is to start from (%(default)s)"
    )
    export.add_argument("--capabilities", type=capability_names, default=(), help="labels, task_oracle, reads_ahead")
    export.add_argument("--plugin", type=Path, action="append", default=[], help="the file of a reader; repeatable")
    export.add_argument("--cache", type=Path, default=Path(".cache"), help="folder of decoded images (%(default)s)")
    collect = actions.add_parser("collect", help="turn its answers into a submission")
    collect.add_argument("folder", type=Path, help="as given to --to")
    return command


def do_worker(options) -> None:
    from bench.exchange import worker

    for line in (worker.export if options.action == "export" else worker.collect)(options):
        print(line)
