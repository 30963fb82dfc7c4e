"""Recipes: where the images of a public data set are, file by file, and how they are laid out."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

from bench.errors import BadInput


@dataclass(frozen=True)
class File:
    """One image of a recipe, and what its mask is made from."""

    target: PurePosixPath  # below the data folder: class, split, kind and name
    path: str  # in its source, below the recipe's folder
    sha256: str
    mask_path: str | None
    mask_sha256: str | None

    @property
    def mask_target(self) -> PurePosixPath:
        """A bitmap, which has the same bytes whatever library writes it: they count in the fingerprint."""
        name, _, kind = self.target.parts[:3]
        return PurePosixPath(name, "ground_truth", kind, f"{self.target.stem}_mask.bmp")


@dataclass(frozen=True)
class Recipe:
    """Where the images of one class are, and how they are laid out."""

    name: str  # of the class
    source: str  # address of the repository
    commit: str
    url: str  # of one file, with {commit} and {path}
    licence: str
    credit: str
    masks: str  # a key of MASKS: what the masks are made from
    files: tuple[File, ...]


def recipe_names() -> list[str]:
    """What can be got: recipes, and single classes as recipe/class."""
    found = []
    for path in sorted(shelf().glob("*.yaml")):
        found += [path.stem, *(f"{path.stem}/{each.stem}" for each in sorted((shelf() / path.stem).glob("*.yaml")))]
    return found


def shelf() -> Path:
    """Folder of the recipes."""
    return Path(str(resources.files("scenarios") / "recipes"))


def recipe(path: Path) -> Recipe:
    """Read the recipe of one class; raises BadInput for one that would write or read outside of its folders."""
    content = recipe_yaml(path)
    below, files = content.get("folder", ""), []
    for place, rows in content["files"].items():
        for row in rows:
            image, digest, *hidden = row
            target = PurePosixPath(content["class"], place, PurePosixPath(image).name)
            mask_path, mask_digest = hidden or (None, None)
            sources = [str(PurePosixPath(below, each)) for each in (image, mask_path) if each]
            for each in (str(target), *sources):
                if not is_below(each) or (each == str(target) and len(target.parts) != 4):
                    raise BadInput(f"The recipe {path} has the path {each!r}, which leads elsewhere: do not use it.")
            files.append(File(target, sources[0], digest, sources[1] if mask_path else None, mask_digest))
    keys = ("source", "commit", "url", "licence", "credit", "masks")
    return Recipe(content["class"], *(content[key] for key in keys), tuple(files))


def recipe_yaml(path: Path) -> dict:
    """A recipe's file, or that of a whole data set, as it stands there."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader)


def is_below(path: str) -> bool:
    """Whether a path of a recipe or an archive stays in the folder that it is meant for."""
    pure = PurePosixPath(path)
    return not (pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in pure.parts[0])
