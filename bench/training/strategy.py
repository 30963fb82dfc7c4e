"""Avalanche's training loop with the classification taken out of it."""

from collections.abc import Iterator, Sequence

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import BaseSGDTemplate, base
from avalanche.training.templates.observation_type import BatchObservation
from avalanche.training.templates.update_type import SGDUpdate
from torch import Tensor
from torch.utils.data import DataLoader

from bench.training.auto_batch import AutoBatch
from bench.training.batch import Batch, Prediction
from bench.training.detector import Detector
from bench.training.device import pins

# Whenever a strategy is built it looks up the signatures of all classes above it: a fifth of a step's start.
base._check_mispelled_kwargs = lambda cls, arguments: None


class NoOptimizer:
    """For detectors that have nothing to optimise."""

    param_groups, state = (), {}

    def zero_grad(self) -> None:
        pass

    def step(self) -> None:
        pass


class Images:
    """All training images of a step in batches on the device, as often as one iterates."""

    def __init__(self, dataset: AvalancheDataset, batch_size: int, device: torch.device):
        self.loader, self.device = DataLoader(dataset, batch_size, pin_memory=pins(device)), device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Tensor]:
        for image, *_ in self.loader:
            yield image.to(self.device, non_blocking=True)


def checked(said: Prediction, detector: Detector, image: Tensor) -> Prediction:
    """What a detector said of images (B, 3, H, W), if it is what it owes.

    Raises:
        TypeError: if it is no `Prediction`, or of other shapes, with the line of `predict`.
    """
    code = type(detector).predict.__code__
    predict = f"{code.co_filename}:{code.co_firstlineno}: {type(detector).__name__}.predict"
    if not isinstance(said, Prediction):
        raise TypeError(f"{predict} returned a {type(said).__name__}: return Prediction(score, map)")
    if said.score.shape != image.shape[:1]:
        raise TypeError(f"{predict} returned scores {tuple(said.score.shape)} for {len(image)} images: one each, (B,)")
    if said.map is not None and (said.map.ndim != 4 or said.map.shape[:2] != (len(image), 1)):
        raise TypeError(f"{predict} returned maps {tuple(said.map.shape)}: they are (B, 1, H, W)")
    return said


class AnomalyProblem:
    """Avalanche's problem type for detectors: it stands where `SupervisedProblem` stands in `SupervisedTemplate`."""

    def _unpack_minibatch(self):
        self.mbatch = Batch(*(field.to(self.device, non_blocking=True) for field in self.mbatch))

    def forward(self):
        if self.is_training:
            return self.model.loss(self.mbatch.image)
        return checked(self.model.predict(self.mbatch.image), self.model, self.mbatch.image)

    def criterion(self):  # Avalanche also asks for it while evaluating
        return self.mb_output if self.is_training else self._make_empty_loss()


class Strategy(BatchObservation, AnomalyProblem, SGDUpdate, BaseSGDTemplate):
    """Trains a detector step after step; plugins say what is done about forgetting.

    Order within a step: data adaptation (`rehearse` here), `detector.prepare`, epochs of `loss`,
    `detector.consolidate`, the plugins' `after_training_exp`. The last weights count: nothing is selected on test data.
    """

    def __init__(self, *, detector: Detector, plugins: Sequence = (), device: str = "cpu", eval_batch_size: int = 32):
        super().__init__(
            model=detector,
            optimizer=NoOptimizer(),
            criterion=None,
            plugins=list(plugins),
            evaluator=EvaluationPlugin(
                loggers=[BaseLogger()]
            ),  # without a logger it warns; the runner puts its own here
            train_mb_size=detector.batch_size,
            train_epochs=detector.epochs,
            eval_mb_size=eval_batch_size,
            device=device,
        )
        self.methods = tuple(plugins)  # those that carry state, without Avalanche's own
        self.remembered: AvalancheDataset | None = None
        self.train_images = 0  # images that went through `loss` in this step
        self.auto_batch: AutoBatch | None = None  # takes batches that do not fit the memory in parts

    def rehearse(self, dataset: AvalancheDataset) -> None:
        """Train this step on `dataset` too (call in `before_train_dataset_adaptation` or `after_...`).

        Gradient-trained detectors see as many of it beside every batch as that holds new ones, so that old and new
        weigh the same; of fewer images than a batch, all there are. Detectors that store what they see get each once.
        """
        self.remembered = dataset if self.remembered is None else self.remembered.concat(dataset)

    @property
    def images(self) -> Images:
        """The images of this step, remembered ones included."""
        both = self.adapted_dataset if self.remembered is None else self.adapted_dataset.concat(self.remembered)
        return Images(both, self.train_mb_size, self.device)

    def make_optimizer(self, **_):
        # Avalanche would add every parameter of the model to the optimizer, the frozen ones too.
        self.optimized_param_id = {}
        self.optimizer = self.model.optimizer() or NoOptimizer()

    def make_train_dataloader(self, **kwargs):
        if self.remembered is None:
            images = len(self.adapted_dataset)
            # A batch norm cannot train on a last batch of one image.
            dropped = images % self.train_mb_size == 1 or self.model.drop_last
            drop_last = images > self.train_mb_size and dropped and self._learns()
            return super().make_train_dataloader(drop_last=drop_last, **kwargs)
        if not self._learns():
            self.dataloader = self.images.loader
        else:
            self.dataloader = ReplayDataLoader(
                self.adapted_dataset,
                self.remembered,
                batch_size=self.train_mb_size,
                batch_size_mem=self.train_mb_size,
                task_balanced_dataloader=False,
                oversample_small_tasks=True,
                shuffle=True,
                pin_memory=pins(self.device),
            )

    def make_eval_dataloader(self, **_):
        self.dataloader = self.experience  # test images come in turn, as batches

    def _learns(self) -> bool:
        return self.model.optimizer() is not None

    def _before_training_exp(self, **kwargs):
        self.remembered, self.train_images = None, 0
        if self.auto_batch:
            self.auto_batch.start()
        super()._before_training_exp(**kwargs)

    def _train_exp(self, *args, **kwargs):
        if not self._stop_training:
            self.model.prepare(self.images)
            self._schedule = self.model.scheduler(self.optimizer, self.train_epochs * len(self.dataloader))
        super()._train_exp(*args, **kwargs)

    def forward(self):
        if self.is_training:
            self.train_images += len(self.mbatch.image)
        if self.is_training and self._splits():
            return self.auto_batch.loss(self.model, self.mbatch.image)
        return super().forward()

    def _splits(self) -> bool:
        return self.auto_batch is not None and not isinstance(self.optimizer, NoOptimizer)

    def backward(self):
        if not self.loss.requires_grad:
            return
        try:
            return super().backward()
        except RuntimeError as error:
            if not self._splits():
                raise
            self.auto_batch.check(error, self.mbatch.image)
        # Go back to the forward pass, in smaller parts: the graph of the larger ones did not fit.
        self.mb_output = self.loss = None  # they hold that graph
        self.optimizer.zero_grad()
        self.auto_batch.halve(self.mbatch.image)
        self.mb_output = self.auto_batch.loss(self.model, self.mbatch.image)
        self._after_forward()
        self.loss = self._make_empty_loss() + self.criterion()
        self._before_backward()
        self.backward()

    def optimizer_step(self):
        super().optimizer_step()
        if self._schedule is not None:
            self._schedule.step()

    def let_go(self) -> None:
        """Drop what a finished step needs no more, so that the predictions find its memory free.

        These are the last batch, its graph, the gradients, and what the optimizer remembers: together three times the
        trained weights with Adam.
        """
        self.mbatch = self.mb_output = self.loss = self._schedule = None
        if not isinstance(self.optimizer, NoOptimizer):
            self.optimizer.state.clear()
            self.optimizer = NoOptimizer()
        self.model.zero_grad(set_to_none=True)

    def _after_training_exp(self, **kwargs):
        if self.train_images:  # plugins, timing and evaluation see a finished detector
            self.model.consolidate(self.images)
        super()._after_training_exp(**kwargs)
