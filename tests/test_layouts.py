"""Data as people have it: the layouts of the field's data sets, names in other spellings, and what a check says."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from trees import mask, picture, stream, tree, visa_tree, write_split

from bench.cli import main
from bench.data import Sample, decode, load_arrays
from bench.data.check import check_data
from bench.data.look import look, outlined
from bench.data.pixels import mask as mask_of
from bench.errors import BadInput
from scenarios import folder, visa


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "data", ("bolt",))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def block(path: Path, rows: slice, columns: slice, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.zeros((24, 24), np.uint8)
    grey[rows, columns] = value
    Image.fromarray(grey).save(path)
    return path


def found_masks(root, cache, *names, **options):
    """(anomalous images, share of defective pixels of each, notes) at the images' own size."""
    arrays, _ = load_arrays(stream(*(names or ("bolt",)), **options), root, 24, cache)
    return arrays.labels.sum(), arrays.masks[arrays.labels == 1].mean(axis=(1, 2)), " ".join(arrays.notes)


# ---- layouts


@pytest.mark.parametrize("name", ["logical_anomalies", "hole"])
def test_a_folder_of_masks_per_image_as_in_loco_and_autovi(root, cache, name):
    (root / "bolt/test/scratch").rename(root / f"bolt/test/{name}")
    shutil.rmtree(root / "bolt/ground_truth")
    for index in range(2):
        block(root / f"bolt/ground_truth/{name}/{index:03}/000.png", slice(0, 6), slice(0, 24), 245)
        block(root / f"bolt/ground_truth/{name}/{index:03}/001.png", slice(18, 24), slice(0, 24), 250)
    picture(root / "bolt/validation/good/000.png")
    count, share, notes = found_masks(root, cache)
    assert (count, share.tolist()) == (2, [0.5, 0.5])
    assert "bolt: MVTec LOCO AD or AutoVI, a folder of masks per image, united" in notes
    assert [line for line in check_data(root, cache=cache).passed_over if "validation is not read" in line]


@pytest.mark.parametrize("lights", [("regular",), ("regular", "overexposed")])
def test_mvtec_ad_2(tmp_path, cache, lights):
    root = tmp_path / "ad2"
    for index in range(3):
        picture(root / f"can/train/good/{index:03}_regular.png", index)
    for light in lights:
        picture(root / f"can/test_public/good/000_{light}.png", 50)
        picture(root / f"can/test_public/bad/000_{light}.png", 60)
        mask(root / f"can/test_public/ground_truth/bad/000_{light}_mask.png")
        picture(root / f"can/test_private/000_{light}.png", 70)
    count, share, notes = found_masks(root, cache, "can")
    assert (count, share.tolist()) == (len(lights), [0.25] * len(lights))
    assert "can: MVTec AD 2, its public test images" in notes
    report = check_data(root, cache=cache)
    assert not report.has_problems
    assert [line for line in report.passed_over if "test_private is not read" in line]


@pytest.mark.parametrize("kinds", [("hole",), ("hole", "crack")])
def test_mvtec_3d(tmp_path, cache, kinds):
    root = tmp_path / "3d"
    for index in range(3):
        picture(root / f"bagel/train/good/rgb/{index:03}.png", index)
        (root / "bagel/train/good/xyz").mkdir(exist_ok=True)
        (root / f"bagel/train/good/xyz/{index:03}.tiff").write_bytes(b"points")
    picture(root / "bagel/test/good/rgb/000.png", 50)
    mask(root / "bagel/test/good/gt/000.png", value=0)
    for kind in kinds:
        picture(root / f"bagel/test/{kind}/rgb/000.png", 60)
        mask(root / f"bagel/test/{kind}/gt/000.png")
    count, share, notes = found_masks(root, cache, "bagel")
    assert (count, share.tolist()) == (len(kinds), [0.25] * len(kinds))
    assert "bagel: MVTec 3D-AD, its colour images" in notes
    assert [line for line in check_data(root, cache=cache).passed_over if "xyz is not read" in line]


def real_iad(root: Path, sizes=("realiad_256",), tables="realiad_jsons/realiad_jsons", name="mint") -> Path:
    content = {"meta": {"prefix": f"{name}/", "normal_class": "OK"}, "train": [], "test": []}
    for size in sizes:
        for number, (split, kind) in enumerate(
            [("train", "OK")] * 3 + [("test", "OK"), ("test", "AK"), ("test", "BX")]
        ):
            place = f"{'OK' if kind == 'OK' else f'NG/{kind}'}/S{number:04}/{name}_{number}.jpg"
            picture(root / size / name / place, number)
            hidden = None if kind == "OK" else place.replace(".jpg", ".png")
            if hidden:
                mask(root / size / name / hidden)
            if size == sizes[0]:
                row = {"category": name, "anomaly_class": kind, "image_path": place, "mask_path": hidden}
                content[split].append(row)
    (root / tables).mkdir(parents=True)
    (root / tables / f"{name}.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("sizes", "tables", "given"),
    [
        (("realiad_256",), "realiad_jsons/realiad_jsons", "."),
        (("realiad_256",), "realiad_jsons", "realiad_256"),
        (("realiad_512", "realiad_1024"), "realiad_jsons", "."),
    ],
)
def test_real_iad(tmp_path, cache, sizes, tables, given):
    root = real_iad(tmp_path / "Real-IAD", sizes, tables) / given
    arrays, _ = load_arrays(stream("mint"), root, 24, cache)
    assert (arrays.train.sum(), arrays.labels.sum()) == (3, 2)
    assert arrays.masks[arrays.labels == 1].mean() == 0.25
    assert sizes[-1] in arrays.notes[0]
    assert not check_data(root, cache=cache).has_problems


def test_a_damaged_table_of_real_iad(tmp_path, cache):
    root = real_iad(tmp_path / "Real-IAD")
    (root / "realiad_256/mint/NG/AK/S0004/mint_4.png").unlink()
    assert "and it is listed in" in check_data(root, cache=cache).missing[0]
    (root / "realiad_jsons/realiad_jsons/mint.json").write_text('{"meta": {"normal_class": "OK"}, "train": ')
    with pytest.raises(BadInput, match=r"mint\.json cannot be read"):
        load_arrays(stream("mint"), root, 24, cache)


@pytest.mark.parametrize("place", ["1cls", ".", "visa_pytorch/1cls"])
def test_visa_as_others_convert_it(tmp_path, cache, place):
    tree(tmp_path / "visa" / place, ("candle", "pcb1"))
    shutil.move(tmp_path / "visa" / place / "candle/test/scratch", tmp_path / "visa" / place / "candle/test/bad")
    truth = tmp_path / "visa" / place / "candle/ground_truth"
    shutil.move(truth / "scratch", truth / "bad")
    arrays, _ = load_arrays(stream("candle", "pcb1", reader="visa"), tmp_path / "visa", 24, cache)
    assert (arrays.train.sum(), arrays.labels.sum()) == (6, 4)
    assert "VisA as converted to MVTec's folders" in arrays.notes[0]
    assert check_data(tmp_path / "visa", cache=cache).reader == "visa"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace("object,split", "Object,Split").replace("normal", "Normal"),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace(",candle/", ",VisA/candle/"),
        lambda text: text.replace(".JPG", ".png"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_the_table_of_visa_in_other_spellings(tmp_path, cache, change):
    root = visa_tree(tmp_path / "visa", ("candle",))
    table = visa.table(root)
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        original = table.read_bytes()
        table.write_text(change(original.decode()), encoding=encoding, newline="")
        arrays, _ = load_arrays(stream("candle", reader="visa"), root, 24, cache)
        assert (arrays.train.sum(), arrays.labels.sum()) == (3, 1)
        table.write_bytes(original)


@pytest.mark.parametrize("again", [1, 2])
def test_rows_of_visa_that_are_listed_again(tmp_path, cache, again):
    root = visa_tree(tmp_path / "visa", ("candle",))
    head, *rows = visa.table(root).read_text().splitlines()
    visa.table(root).write_text("\n".join([head, *rows, *(rows * again)]) + "\n")
    report = check_data(root, cache=cache)
    assert report.images == 5
    assert report.wrong == [f"{5 * again} rows are listed twice in {visa.table(root)}: each image is taken once"]


@pytest.mark.parametrize("train", ["train", "training"])
def test_pictures_directly_in_the_training_folder(root, cache, train):
    for path in (root / "bolt/train/good").iterdir():
        shutil.move(path, root / "bolt/train" / path.name)
    (root / "bolt/train/good").rmdir()
    (root / "bolt/train").rename(root / "bolt" / train)
    arrays, _ = load_arrays(stream("bolt"), root, 24, cache)
    assert arrays.train.sum() == 3
    assert "the pictures directly in its training folder taken for normal ones" in arrays.notes[0]


def test_flat_folders(tmp_path, cache):
    for index in range(4):
        picture(tmp_path / "flat" / f"{index}.jpg", index)
    for place in (tmp_path, tmp_path / "flat"):
        report = check_data(place, cache=cache)
        assert [(row["class"], row["train"], row["test good"]) for row in report.table] == [("flat", 3, 1)]
        assert "flat: a flat folder of good pictures, every fourth tested on" in report.taken[0]
        assert "false alarms only" in report.taken[0] and not report.has_problems
        assert str(report).startswith(f"{place}: folder, 1 class, 4 images")
    arrays, _ = load_arrays(stream("flat"), tmp_path / "flat", 24, cache)
    assert arrays.train.sum() == 3


def good_and_bad(folder_: Path, good: str, bad: str, count: int = 8) -> Path:
    for index in range(count):
        picture(folder_ / good / f"{index}.png", index)
    picture(folder_ / bad / "0.png", 50)
    return folder_


@pytest.mark.parametrize(("good", "bad"), [("OK", "NG"), ("good", "Defect"), ("normal", "anomalous"), ("PASS", "fail")])
def test_good_and_bad_pictures_of_a_class_beside_a_flat_one(tmp_path, cache, good, bad):
    root = tmp_path / "fab"
    good_and_bad(root / "gear", good, bad)
    for index in range(4):
        picture(root / "board" / f"{index}.png", 20 + index)
    report = check_data(root, cache=cache)
    rows = [(row["class"], row["train"], row["test good"], row["test anomalous"]) for row in report.table]
    assert rows == [("board", 3, 1, 0), ("gear", 6, 2, 1)]
    assert not report.has_problems and not report.passed_over
    mask(root / "gear" / "masks" / "0.png")
    tree(root, ("bolt",))
    report = check_data(root, cache=cache)
    assert [(row["class"], row["good masks"]) for row in report.table] == [("bolt", 2), ("gear", 1)]
    assert report.passed_over[0].startswith(f"{root / 'board'} is not read: put its good pictures into")


def test_good_and_bad_pictures_alone_are_one_product(tmp_path, cache):
    root = good_and_bad(tmp_path / "gb" / "gear", "good", "bad")
    for place in (root.parent, root):
        report = check_data(place, cache=cache)
        assert [(row["class"], row["train"], row["test anomalous"]) for row in report.table] == [("gear", 6, 1)]
        assert load_arrays(stream("gear"), place, 24, cache)[0].labels.sum() == 1
    with pytest.raises(BadInput, match=f"wrong level of the data set: give {root} instead"):
        check_data(root / "bad", cache=cache)


def test_good_pictures_directly_in_a_class_with_bad_ones_in_a_folder(tmp_path, cache):
    root = good_and_bad(tmp_path / "fab", "gear", "gear/bad")
    report = check_data(root, cache=cache)
    assert [(row["train"], row["test good"], row["test anomalous"]) for row in report.table] == [(6, 2, 1)]
    (root / "good").mkdir()
    picture(root / "gear/scratch/0.png")
    told = check_data(root, cache=cache).passed_over
    assert told[0].startswith(f"{root / 'good'} is not read: a folder of this name belongs into that of its class")
    assert f"{root / 'gear/scratch'} is not read: if its pictures are bad ones, put them into" in told[1]


@pytest.mark.parametrize("name", ["label", "mask"])
def test_a_product_may_be_called_as_a_part_is(tmp_path, cache, name):
    report = check_data(tree(tmp_path / "data", ("bolt", name)), cache=cache)
    assert {row["class"] for row in report.table} == {"bolt", name}


@pytest.mark.parametrize("named", ["Ground-Truth", "masks", "gt"])
def test_parts_in_other_spellings(root, cache, named):
    for part, other in (("train", "Train"), ("test", "Test"), ("ground_truth", named)):
        (root / "bolt" / part).rename(root / "bolt" / other)
    count, share, _ = found_masks(root, cache)
    assert (count, share.tolist()) == (2, [0.25, 0.25])


@pytest.mark.parametrize(
    "name", ["{}_gt", "{}_label", "mask_{}", "{}.png_mask", "{}_GT", "{}_MASK", "{}-mask", "{}_ground_truth", "gt_{}"]
)
def test_names_of_masks(root, cache, name):
    for path in list((root / "bolt/ground_truth/scratch").iterdir()):
        path.rename(path.with_stem(name.format(path.stem.removesuffix("_mask"))))
    count, share, _ = found_masks(root, cache)
    assert (count, share.tolist()) == (2, [0.25, 0.25])


def test_masks_beside_their_images_and_all_in_one_folder(root, cache):
    shutil.copytree(root / "bolt", root / "nut")
    for path in list((root / "bolt/ground_truth/scratch").iterdir()):
        shutil.move(path, root / "bolt/test/scratch" / path.name)
    shutil.rmtree(root / "bolt/ground_truth")
    for path in list((root / "nut/ground_truth/scratch").iterdir()):
        shutil.move(path, root / "nut/ground_truth" / path.name)
    (root / "nut/ground_truth/scratch").rmdir()
    count, share, _ = found_masks(root, cache, "bolt", "nut")
    assert (count, share.tolist()) == (4, [0.25] * 4)


def test_a_mask_of_a_near_name_is_named(root, cache):
    hidden = root / "bolt/ground_truth/scratch"
    (hidden / "000_mask.png").rename(hidden / "00_mask.png")
    with pytest.raises(BadInput, match=r"has no mask: is it .*/00_mask.* Else put it at .*/000_mask\.png"):
        found_masks(root, cache)
    (root / "bolt/scratch").mkdir()
    (hidden / "00_mask.png").rename(root / "bolt/scratch/000.png")
    assert f"is it {root / 'bolt/scratch/000.png'}?" in check_data(root, cache=cache).missing[0]


# ---- no masks, no anomalous, no normal test images


def test_no_masks_at_all_or_not_wanted(root, cache):
    arrays, masked = load_arrays(stream("bolt", masks="none"), root, 24, cache)
    assert arrays.unmasked.sum() == 2
    assert not arrays.masks.any()
    shutil.rmtree(root / "bolt/ground_truth")
    arrays, identity = load_arrays(stream("bolt"), root, 24, cache)
    assert identity == masked
    assert arrays.unmasked.sum() == 2
    assert "bolt: MVTec AD, without masks: image metrics only" in arrays.notes
    assert not check_data(root, cache=cache).has_problems
    with pytest.raises(BadInput, match="The option masks is 'no': it is one of read, none, inverted"):
        load_arrays(stream("bolt", masks="no"), root, 24, cache)


@pytest.mark.parametrize(("gone", "says"), [("scratch", "false alarms only"), ("good", "without normal test images")])
def test_a_class_with_one_kind_of_test_images(root, cache, gone, says):
    shutil.rmtree(root / "bolt/test" / gone)
    arrays, _ = load_arrays(stream("bolt"), root, 24, cache)
    assert (~arrays.train).sum() == 2
    assert says in arrays.notes[0]
    assert not check_data(root, cache=cache).has_problems


@pytest.mark.parametrize("few", [("bolt", "nut"), ("nut",)], ids=len)
def test_one_training_image_of_a_class_is_told(tmp_path, cache, few):
    root = tree(tmp_path / "data")
    for name in few:
        for number in (1, 2):
            (root / name / f"train/good/00{number}.png").unlink()
    report = check_data(root, cache=cache)
    assert [line.split()[0] for line in report.trivial if "has one training image" in line] == list(few)
    assert not report.has_problems
    arrays, _ = load_arrays(stream("bolt", "nut"), root, 24, cache)
    assert arrays.train.sum() == 6 - 2 * len(few)


# ---- pixels


@pytest.mark.parametrize("soften", [lambda a: a, lambda a: a * 0.98, lambda a: a * 0.3])
def test_soft_masks_of_any_white_are_cut_at_half(tmp_path, soften):
    from scipy.ndimage import gaussian_filter

    hard = np.zeros((64, 64))
    hard[20:40, 20:44] = 255
    Image.fromarray(soften(gaussian_filter(hard, 3)).astype(np.uint8)).save(tmp_path / "m.png")
    image = picture(tmp_path / "i.png", size=(64, 64))
    found = mask_of(Sample("bolt", "test", image, tmp_path / "m.png", 1, "scratch"))
    assert abs(found.sum() / (hard > 0).sum() - 1) < 0.1


@pytest.mark.parametrize("kind", ["palette of colours", "alpha", "one bit", "jpeg", "16 bits", "labels"])
def test_encodings_of_masks(tmp_path, kind):
    truth = np.zeros((32, 32), bool)
    truth[8:16, 8:24] = True
    path = tmp_path / ("m.jpg" if kind == "jpeg" else "m.png")
    if kind == "palette of colours":  # as of VOC: defects of two types, one much darker
        saved = Image.fromarray(truth.astype(np.uint8) + truth * (np.arange(32) > 15)).convert("P")
        saved.putpalette([0, 0, 0, 128, 0, 0, 0, 40, 0])
    elif kind == "alpha":
        saved = Image.fromarray(np.dstack([np.zeros((32, 32, 3), np.uint8), truth * np.uint8(255)]))
    elif kind == "16 bits":
        saved = Image.fromarray(truth * np.uint16(4000))
    else:
        top = {"labels": truth * np.where(np.arange(32) > 15, 1, 7), "one bit": truth, "jpeg": truth * 255}[kind]
        saved = Image.fromarray(top) if kind == "one bit" else Image.fromarray(top.astype(np.uint8))
    saved.save(path, **({"quality": 90} if kind == "jpeg" else {}))
    image = picture(tmp_path / "i.png", size=(32, 32))
    assert (mask_of(Sample("bolt", "test", image, path, 1, "scratch")) == truth).all()


def invert(root):
    for path in root.rglob("ground_truth/*/*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


@pytest.mark.parametrize("classes", [("bolt",), ("bolt", "nut")])
def test_inverted_masks_are_named_and_can_be_read(tmp_path, cache, classes):
    root = tree(tmp_path / "data", classes)
    right = load_arrays(stream(*classes), root, 24, cache)
    invert(root)
    report = check_data(root, cache=cache)
    assert len(report.wrong) == len(classes)
    assert "bolt: 2 masks cover their whole image but for an island" in report.wrong[0]
    wrong, _ = load_arrays(stream(*classes), root, 24, cache)
    assert any("masks: inverted" in note for note in wrong.notes)
    mended, identity = load_arrays(stream(*classes, masks="inverted"), root, 24, cache)
    assert (mended.masks == right[0].masks).all()
    assert identity != load_arrays(stream(*classes), root, 24, cache)[1]
    assert not check_data(root, cache=cache, options={"masks": "inverted"}).has_problems


@pytest.mark.parametrize("other", [("000.jpg", None), (None, "000_mask.bmp"), (None, "000.png")])
def test_clashes_of_one_stem_are_named(root, cache, other):
    image, hidden = other
    if image:
        picture(root / "bolt/test/scratch" / image, 9)
    else:
        mask(root / "bolt/ground_truth/scratch" / hidden, value=200)
    report = check_data(root, cache=cache)
    assert len(report.wrong) == 1
    assert ("share the mask" if image else "has two masks") in report.wrong[0]
    with pytest.raises(BadInput, match="000"):
        load_arrays(stream("bolt"), root, 24, cache)


@pytest.mark.parametrize(("bits", "colour"), [(12, False), (10, False), (12, True), (14, True), (16, False)])
def test_the_true_depth_of_16_bit_files(root, cache, bits, colour):
    import cv2

    eight, _ = load_arrays(stream("bolt"), root, 24, cache)
    for path in [*root.rglob("train/*/*.png"), *root.rglob("test/*/*.png")]:
        grey = np.asarray(Image.open(path))
        deep = (grey.astype(np.int64) * (2**bits - 1) // 255).astype(np.uint16)
        cv2.imwrite(str(path), deep[..., ::-1] if colour else deep[..., 0])
    arrays, _ = load_arrays(stream("bolt"), root, 24, cache)
    wanted = eight.images if colour else eight.images[..., :1]
    assert np.abs(arrays.images.astype(int) - wanted).max() <= 1
    assert any(f"hold {bits} bits" in note for note in arrays.notes) == (bits < 16)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("drawn", ["upright", "stored"])
def test_exif(tmp_path, cache, orientation, drawn):
    if orientation == 3 and drawn == "stored":
        pytest.skip("half a turn keeps the size: nothing tells that a mask is drawn on the stored pixels")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[:5, :10] = 255
    Image.fromarray(stored).save(tmp_path / "i.png", exif=exif)
    grey = Image.fromarray(stored[..., 0])
    if drawn == "upright":
        grey.getexif()[0x0112] = orientation
        grey = ImageOps.exif_transpose(grey)
    grey.save(tmp_path / "m.png")
    image, found = decode(Sample("bolt", "test", tmp_path / "i.png", tmp_path / "m.png", 1, "scratch"), 40)
    assert ((image[..., 0] > 127) == found).mean() > 0.99
    assert found.any()


def test_exif_is_told(tmp_path, cache):
    root = tree(tmp_path / "data", ("bolt",))
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in list(root.rglob("train/good/*.png")):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif, quality=95)
        path.unlink()
    assert "bolt: 3 images are turned upright by their EXIF orientation" in check_data(root, cache=cache).trivial


@pytest.mark.slow
def test_a_line_scan_of_196_megapixels(root, cache):
    Image.new("1", (2000, 98000), 1).save(root / "bolt/train/good/big.png")
    arrays, _ = load_arrays(stream("bolt"), root, 24, cache)
    assert arrays.train.sum() == 4
    assert (arrays.images == 255).all(axis=(1, 2, 3)).any()


def test_an_image_beyond_what_pillow_takes_for_safe_is_decoded(tmp_path, monkeypatch):
    from bench.data import pixels

    assert Image.MAX_IMAGE_PIXELS >= 2**30
    monkeypatch.setattr(pixels, "LARGE", 100)  # the way of the large ones
    image, _ = decode(Sample("bolt", "train", picture(tmp_path / "i.png"), None, 0, "good"), 24)
    assert image.std() > 10


# ---- names and odd files


@pytest.mark.parametrize("raw", [b"\xc1\xe3\xbc\xfe0.png", b"caf\xe9.png"])
def test_file_names_that_are_no_utf8(root, cache, raw, capsys):
    folder_ = os.fsencode(root / "bolt/train/good")
    try:
        os.rename(os.fsencode(root / "bolt/train/good/000.png"), folder_ + b"/" + raw)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert load_arrays(stream("bolt"), root, 24, cache)[0].train.sum() == 3
    (root / "bolt/train/good" / os.fsdecode(raw)).write_bytes(b"")
    assert main(["data", "check", str(root), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["wrong"]
    assert "empty" in look(check_data(root)).encode().decode()


def test_every_oddity_is_listed(root, cache):
    mask(root / "bolt/ground_truth/scratch/099_mask.png")
    mask(root / "bolt/ground_truth/dent/000_mask.png")
    mask(root / "bolt/ground_truth/good/000_mask.png", value=0)
    for place in ("test/loose.png", "train/loose.png", "validation/good/000.png", "test/scratch/sub/000.png"):
        picture(root / "bolt" / place)
    (root / "bolt/readme.txt").write_text("")
    (root / "bolt/test/scratch/gone.png").symlink_to(root / "nowhere.png")
    lines = check_data(root, cache=cache).passed_over
    for name in (
        "099_mask.png",
        "dent",
        "truth/good",
        "test/loose",
        "train/loose",
        "validation",
        "sub",
        "readme",
        "gone",
    ):
        assert len([line for line in lines if name in line.split(" is n")[0]]) == 1, name
    assert len(lines) == 9


@pytest.mark.parametrize("linked", ["bolt", "bolt/test/scratch", "bolt/train/good/000.png"])
def test_links(root, tmp_path, cache, linked):
    view = tmp_path / "view"
    shutil.copytree(root, view)
    (shutil.rmtree if (view / linked).is_dir() else os.remove)(view / linked)
    (view / linked).symlink_to(root / linked)
    (view / "loop").symlink_to(view)
    (view / "bolt/train/good/loop").symlink_to(view)
    report = check_data(view, cache=cache)
    assert report.images == 7 and not report.has_problems
    (root / linked).rename(tmp_path / "gone")
    if (root / linked).suffix:
        assert any("000.png" in line for line in check_data(view, cache=cache).passed_over)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"hello", "is cut short or corrupt"),
        (b"<html>404</html>", "is a web page and no image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "is a pointer of Git LFS"),
    ],
)
def test_the_exit_code_of_a_check(root, content, says, capsys):
    assert main(["data", "check", str(root)]) == 0
    (root / "bolt/test/good/000.png").write_bytes(content)
    assert main(["data", "check", str(root)]) == 1
    assert says in capsys.readouterr().out


def test_leaks_come_first_and_are_never_cut(tmp_path, cache):
    root = visa_tree(tmp_path / "visa", ("candle", "pcb1"))
    rows = [line.split(",") for line in visa.table(root).read_text().splitlines()[1:]]
    write_split(root, [*rows, *([name, "test", *rest] for name, split, *rest in rows if split == "train")])
    report = check_data(root, cache=cache)
    assert len(report.leaks) == 6
    text = str(report)
    assert text.index("leaks from training to test: 6") < text.index("wrong pixels") < text.index("warnings: ")
    assert all(line in text for line in report.leaks)


# ---- what a resize removes


@pytest.mark.parametrize(("size", "lost"), [(8, 4), (48, 0)])
def test_what_a_resize_removes_is_counted(tmp_path, cache, size, lost):
    root = tree(tmp_path / "data", ("bolt",))
    for path in root.rglob("test/*/*.png"):
        picture(path, 1, (96, 96))
    for path in root.rglob("ground_truth/*/*.png"):
        grey = np.zeros((96, 96), np.uint8)
        grey[10:12, 10:13], grey[50:52, 50:53] = 255, 255
        Image.fromarray(grey).save(path)
    report = check_data(root, cache=cache, size=size)
    assert bool(report.too_small) == bool(lost)
    if lost:
        assert "bolt: 4 of 4 defects and the whole mask of 2 images vanish" in report.too_small[0]


# ---- what a check leaves behind


def test_a_check_ends_with_a_stream_that_runs(root, tmp_path, cache, capsys):
    written = tmp_path / "mine.yaml"
    assert main(["data", "check", str(root), "--stream", str(written)]) == 0
    assert f"next: python -m bench run --methods finetune,replay,joint --scenario {written}" in capsys.readouterr().out
    from bench.schema.stream import load_stream as stream_named

    assert load_arrays(stream_named(str(written)), root, 24, cache)[0].train.sum() == 3


def test_a_check_without_a_stream_file_names_the_command_that_writes_it(root, capsys):
    assert main(["data", "check", str(root), "--masks", "none"]) == 0
    told = f"next: python -m bench data check {root} --masks none --stream my-stream.yaml && python -m bench run "
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("masks", ["read", "none"])
def test_a_page_to_look_at(root, tmp_path, masks):
    page = tmp_path / "look.html"
    assert main(["data", "check", str(root), "--look", str(page), "--masks", masks]) == 0
    text = page.read_text()
    assert text.count("<img src='data:image/jpeg;base64,") == 7
    assert ("(no mask)" in text) == (masks == "none")
    assert "test · scratch · 2 images" in text
    assert text.count(", 25.0% marked") == (2 if masks == "read" else 0)


def test_a_page_tells_what_the_check_found_and_shows_inverted_masks_as_what_they_are(root, cache):
    marked = np.zeros((24, 24), bool)
    marked[6:18, 6:18] = True
    red = np.full((24, 24, 3), (230, 20, 30), np.uint8)  # an image as red as an outline
    right, inverted = outlined(red, marked), outlined(red, ~marked)
    assert (right[marked] == red[marked]).all() and right[0, 0].max() < 0.5 * red.max()
    assert (inverted[~marked] == red[~marked]).all() and inverted[12, 12].max() < 0.5 * red.max()
    assert (outlined(red, np.zeros_like(marked)) == red).all()
    invert(root)
    shutil.copy(root / "bolt/train/good/000.png", root / "bolt/test/good/000.png")
    report = check_data(root, cache=cache)
    text = look(report)
    assert text.count("<p class='wrong'>") == 2 and "75.0% marked" in text
    assert "is the training image" in text and "masks: inverted" in text


def test_options_of_the_reader(root):
    with pytest.raises(BadInput, match="has no option 'mask': it has train_limit and masks"):
        folder.samples(root, ["bolt"], {"mask": "none"})
