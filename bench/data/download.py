"""Fetching a public data set from its owner, where the owner allows it without a form."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.errors import BadInput

VISA = "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar"
VISA_SHA256 = "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362"  # as in anomalib 2.7.0, visa.py
MVTEC = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
CHUNK = 1 << 20

Bytes = Callable[[int, int | None], None]  # called with (bytes here, bytes in all if known)


def download(name: str, into: Path, progress: Bytes | None = None) -> Path:
    """Fetch and unpack a data set into `into`; returns the folder to give as --data.

    Only VisA (CC BY 4.0) can be had without a form. Interrupted, the next call goes on where this one stopped.
    Raises BadInput for MVTec AD, with what to do by hand, for other names, and when the source cannot be reached.
    """
    if name == "mvtec":
        raise BadInput(
            "MVTec AD (CC BY-NC-SA 4.0, not for commercial use) comes only with its owner's form: "
            f"fill it in at {MVTEC}, unpack mvtec_anomaly_detection.tar.xz into {into} and give that folder as --data."
        )
    if name != "visa":
        raise BadInput(f"There is nothing to download for {name!r}: use mvtec or visa.")
    into = Path(into).expanduser()
    target = into / "visa"
    if target.exists():
        raise BadInput(f"{target} is there already: give it as --data, or remove it to fetch VisA again.")
    try:
        into.mkdir(parents=True, exist_ok=True)
        archive = fetch(VISA, into / "VisA_20220922.tar", VISA_SHA256, progress)
        unpack(archive, target)
        archive.unlink()
    except OSError as error:
        raise BadInput(f"The folder {into} cannot be written ({error.strerror}): choose another one.") from error
    return target


def fetch(url: str, path: Path, sha256: str, progress: Bytes | None = None) -> Path:
    """Load `url` into `path`, going on with a part left by an earlier call; raises BadInput if it arrives damaged."""
    part = path.with_name(f"{path.name}.part")
    if not path.exists():
        try:
            _load(url, part, progress)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise BadInput(
                f"{url} cannot be reached ({reason}): check the connection and call this again, "
                f"or fetch it elsewhere and put it at {path}."
            ) from error
    there = path if path.exists() else part
    with there.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        part.unlink(missing_ok=True)
        raise BadInput(
            f"{url} is not what its owner published (sha256 {found[:16]}…): remove {path} and fetch it again."
        )
    return there.replace(path)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar file as `target`, whole or not at all, and nothing outside it; raises BadInput if damaged."""
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with tarfile.open(archive) as file:
            file.extractall(temporary, filter="data")
    except tarfile.TarError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise BadInput(f"{archive} cannot be unpacked ({error}): remove it and fetch it again.") from error
    inside = list(temporary.iterdir())
    if len(inside) == 1 and inside[0].is_dir():  # an archive with one folder around everything
        inside[0].replace(target)
        temporary.rmdir()
    else:
        temporary.replace(target)


def _load(url: str, part: Path, progress: Bytes | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch; the hash tells whether it is the right file
            return
        raise
    with answer:
        resumed = answer.status == 206
        have = have if resumed else 0  # the server began again from the first byte
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(CHUNK):
                file.write(block)
                have += len(block)
                if progress:
                    progress(have, whole)
    if whole is not None and have < whole:
        raise ConnectionError(f"it stopped after {have} of {whole} bytes")
