"""ReplayCAD: old classes are drawn anew by a frozen text-to-image model from a few learned words and masks.

Hu et al., ReplayCAD: Generative Diffusion Replay for Continual Anomaly Detection, arXiv:2505.06603 (IJCAI 2025).
Kept per class: K pseudo-words, a one-layer network that turns an encoded mask into tokens, and some masks; 205,600
bytes and the masks with LDM-256. The text-to-image model is a fixed cost (`fixed_bytes` of the report) and never
changes. Images made of old classes are kept while the process lives, not in its state: a run that goes on makes the
same ones again. Unlike the released code, which trains one detector at the end, the detector is trained at every step.

Controls: `--set replaycad.replay_from=real` keeps the images themselves, as many as are made of a class, and
`replay_from=autoencoder` what the model's autoencoder makes of them: what is lost beyond that, words and masks lose.

`--set replaycad.as_released=true` does as the released code:
- masks by Segment Anything (`masks_from=sam`, weights needed); here the default tells foreground by its colour, which
  needs none;
- replays are asked for with "a photo of *" (`prompt`), where learning has "a photo of a *";
- the prompts of textual inversion (`template_list`, `templates=81`), of which 57 differ, "a dirty *" among them;
- replays pass through a JPEG file (`jpeg`), as nothing else does;
- the detector starts anew at each step (`from_scratch`), and a last batch that is not full is left out (`drop_last`).
Steps, guidance, number of replays, augmentation and jitter were chosen there class by class on the test set:
`preset=released_per_class` beside it, where `classes` names those of MVTec AD or VisA.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from bench.api import BadInput, Plugin, Setup, Strategy, later, normal_images
from methods._latent_diffusion import LatentDiffusion, load
from methods.replaycad.code import ClassCode, decoded, learn, recall
from methods.replaycad.jitter import augmented, jittered
from methods.replaycad.masks import Sam, foreground, from_folder
from methods.replaycad.prompts import LISTS, MARK, REPLAY
from methods.replaycad.released import RELEASED

DEFAULT_DETECTOR = "invad"
CAPABILITIES = ("labels",)  # each class has words of its own
TUNED_ON = {"preset": "chosen per class on the test set by the authors"}
AS_RELEASED = {
    "masks_from": "sam", "prompt": "a photo of *", "template_list": "textual_inversion", "templates": 81, "jpeg": True,
    "from_scratch": True, "drop_last": True,
}  # fmt: skip

MASKS_FROM = ("foreground", "sam", "folder", "full", "none")
REPLAY_FROM = ("prior", "autoencoder", "real")


@dataclass(frozen=True)
class Config:
    """The one profile that the paper's text gives for MVTec; `preset` brings the released code's, class by class."""

    model: str = "CompVis/ldm-text2im-large-256"  # id of the hub, folder, or `procedural`; for VisA: SD 1.5
    words: int = 20  # pseudo-words of a class
    first_word: str = "screw"  # whose embedding they start from, as released; '' for random ones
    row: int = 128  # numbers of an encoded mask that become
    features: int = 200  # so many of the mask tokens'; 192 with SD 1.5
    steps: int = 20_000  # batches that a class is learned with; 30,000 with SD 1.5
    batch_size: int = 32  # 4 with SD 1.5
    rate: float = 5e-5  # AdamW, of the mask network, times the batch size
    word_rate: float = 100.0  # how much higher that of the words is
    templates: int = 80  # prompts that a class is learned with
    augment: str = "none"  # of images and masks: none, turn, six or rotate
    noisy_times: bool = False  # times drawn in proportion to t³ instead of uniformly
    masks_from: str = "foreground"  # foreground, sam, folder, full (the whole image), none (words alone)
    sam: str = "facebook/sam-vit-huge"  # id or folder, for masks_from=sam
    mask_folder: str = ""  # one folder per class, for masks_from=folder; named as in `classes`, else by number
    masks: int = 10  # kept of a class
    jitter: str = "small:10:0.1"  # of kept masks: rotated by up to 10 degrees, shifted by up to a tenth of the width
    replays: int = 800  # images made of a class
    sampling_steps: int = 50  # of DDIM
    guidance: float = 10.0
    jpeg: bool = False  # replays pass through a JPEG file, as in the released code
    from_scratch: bool = True  # the detector starts anew at every step; else from where it was
    preset: str = ""  # released_per_class: hand-tuned for each class of MVTec AD and VisA; names needed in `classes`
    classes: tuple[str, ...] = ()  # names of the stream's classes, as the user gives them: a method sees numbers only
    bfloat16: bool = True  # of the text-to-image model where there is a GPU
    checkpointing: bool = True  # of its UNet: a third more time for much less memory
    slicing: bool = False  # of its attention: for the smallest GPUs
    replay_from: str = later("prior")  # controls: autoencoder, or real images
    prompt: str = later(REPLAY)  # that replays are asked for with, * for the pseudo-words
    template_list: str = later("own")  # or textual_inversion
    drop_last: bool = later(False)  # of the detector's training: a last batch that is not full

    @classmethod
    def tiny(cls) -> "Config":
        """The project's own model, which knows 64 px.

        Its replays lack details of the class; a detector that goes on from where it was still knows them. That was
        better on a development stream, where guidance was chosen too, of which no result is shown.
        """
        return cls(
            model="procedural", words=4, first_word="product", row=128, features=32, steps=120, batch_size=16,
            rate=2.5e-4, word_rate=30.0, templates=1, jitter="small:2:0.03", replays=24, sampling_steps=20,
            guidance=2.0, from_scratch=False, checkpointing=False,
        )  # fmt: skip


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([ReplayCad(config, setup)])


class ReplayCad(Plugin):
    """Learns each class into a code after its step, and trains on what the codes of old classes give."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        _check(config)
        self.config, self.setup, self.seed = config, setup, setup.seed
        setup.detector.drop_last |= config.drop_last
        self.codes: dict[int, ClassCode] = {}  # class -> what is kept of it; nothing in the controls
        self.step_of: dict[int, int] = {}  # class -> step that brought it
        self.replays: dict[int, Tensor] = {}  # class -> (n, 3, H, W) uint8, made again from its code when needed
        self.model = cache(self._load)
        ClassCode.new(self.model(config.model), config)  # what is missing or does not fit is told before training

    def before_training_exp(self, strategy, **_):
        """Start the detector anew."""
        if self.config.from_scratch and self.step_of:
            strategy.model.load_state_dict(self.setup.fresh(self.seed).state_dict())

    def after_train_dataset_adaptation(self, strategy, **_):
        """Train on replays of the old classes and the images of this step, each once an epoch."""
        for category in self.step_of:
            strategy.adapted_dataset = strategy.adapted_dataset.concat(normal_images(self._replay(category)))

    def after_training_exp(self, strategy, **_):
        """Learn each class of the step into a code, or keep images of it in the controls."""
        by_class: dict[int, list[Tensor]] = {}
        for image, _mask, _label, category in strategy.experience.dataset:
            by_class.setdefault(category, []).append(image)
        for category, images in by_class.items():
            images, config = torch.stack(images), self._config(category)
            if config.replay_from == "prior":
                self.codes[category] = learn(self.model(config.model), config, images, self._masks(category, images))
            else:
                self.replays[category] = self._control(images[torch.randperm(len(images))[: config.replays]])
            self.step_of[category] = strategy.experience.current_experience

    def recall(self) -> dict[int, tuple[Tensor, None]]:
        """The replays of each class; they stand for no image in particular."""
        return {category: (self._replay(category), None) for category in self.step_of}

    def exhibits(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """Replays of the classes of a step."""
        of_step = [category for category, learned in self.step_of.items() if learned == step]
        names = {category: "replay" if len(of_step) == 1 else f"replay of {category}" for category in of_step}
        return {name: self._replay(category)[: len(images)] / 255 for category, name in names.items()}

    def report(self) -> dict[str, float]:
        """Bytes of the text-to-image models: needed for every replay, the same for any number of classes."""
        if self.config.replay_from == "real":
            return {"fixed_bytes": 0.0}
        models = {self._config(category).model for category in self.codes} | {self.config.model}
        parts = [list(self.model(name).parameters()) for name in models]
        return {"fixed_bytes": float(sum(p.nbytes for parameters in parts for p in parameters))}

    def _replay(self, category: int) -> Tensor:
        if category not in self.replays:
            config = self._config(category)
            model, size, seed = self.model(config.model), self.setup.image_size, 1000 * self.seed + category
            self.replays[category] = recall(model, config, self.codes[category], size, seed)
        return self.replays[category]

    def _control(self, images: Tensor) -> Tensor:
        """Images (n, 3, H, W) in 0..1 as they are, or as the autoencoder makes them again: uint8."""
        if self.config.replay_from == "autoencoder":
            images = decoded(self.model(self.config.model), images)
        return images.mul(255).round().byte().cpu()

    def _masks(self, category: int, images: Tensor) -> Tensor:
        config = self._config(category)
        if config.masks_from == "foreground":
            return foreground(images)
        if config.masks_from == "sam":
            return Sam(config.sam, self.setup.device)(images)
        if config.masks_from == "folder":
            return from_folder(config.mask_folder, self._name(category) or str(category), images)
        return torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)

    def _name(self, category: int) -> str:
        return self.config.classes[category] if category < len(self.config.classes) else ""

    def _config(self, category: int) -> Config:
        """The settings of a class: the same for all, unless hand-tuned ones are asked for."""
        if not self.config.preset:
            return self.config
        name = self._name(category)
        if name not in RELEASED:
            raise BadInput(
                f"replaycad.preset={self.config.preset}: it has nothing for class {category} ({name or 'unnamed'}); "
                f"name the stream's classes in replaycad.classes, each one of {', '.join(RELEASED)}."
            )
        return replace(self.config, **RELEASED[name])

    def _load(self, source: str) -> LatentDiffusion:
        dtype = torch.bfloat16 if self.config.bfloat16 and self.setup.device != "cpu" else torch.float32
        options = {"checkpointing": self.config.checkpointing, "slicing": self.config.slicing}
        return load(source, "replaycad.model", dtype=dtype, **options).to(self.setup.device)

    def state_dict(self) -> dict:
        codes = {category: code.state() for category, code in self.codes.items()}
        kept = {} if self.config.replay_from == "prior" else {"replays": self.replays}
        return {"codes": codes, "step_of": self.step_of, "seed": self.seed} | kept

    def load_state_dict(self, state: dict) -> None:
        self.seed, self.step_of = state["seed"], dict(state["step_of"])
        self.replays = {category: images.cpu() for category, images in state.get("replays", {}).items()}
        self.codes = {
            category: ClassCode.of(code, self.model(self._config(category).model).width)
            for category, code in state["codes"].items()
        }


def _check(config: Config) -> None:
    jittered(torch.ones(1, 8, 8), config.jitter, torch.Generator())
    augmented(torch.ones(3, 8, 8), torch.ones(1, 8, 8), config.augment)
    if config.masks_from not in MASKS_FROM:
        raise BadInput(f"replaycad.masks_from={config.masks_from}: give one of {', '.join(MASKS_FROM)}.")
    if config.replay_from not in REPLAY_FROM:
        raise BadInput(f"replaycad.replay_from={config.replay_from}: give one of {', '.join(REPLAY_FROM)}.")
    if config.template_list not in LISTS:
        raise BadInput(f"replaycad.template_list={config.template_list}: give one of {', '.join(LISTS)}.")
    if config.prompt.split().count(MARK) != 1:
        raise BadInput(f"replaycad.prompt={config.prompt!r}: the class stands in it once, as a word {MARK!r}.")
    if config.preset not in ("", "released_per_class"):
        raise BadInput(f"replaycad.preset={config.preset}: the only one is released_per_class.")
    if config.masks_from == "folder" and not config.mask_folder:
        raise BadInput("replaycad.masks_from=folder: give the folder with replaycad.mask_folder.")
