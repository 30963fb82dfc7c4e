"""Latent diffusion models of a few weights on disk: in the layout of Stable Diffusion and of LDM-256."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LDMTextToImagePipeline, PNDMScheduler, StableDiffusionPipeline
from diffusers import UNet2DConditionModel as UNet
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from transformers import BertTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH, WIDTH, SIZE, FACTOR = 16, 32, 32, 8
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "*", "a", "photo", "of", "the", "picture", "object")


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, norm_num_groups=4, sample_size=SIZE,
    )  # fmt: skip


def unet() -> UNet:
    return UNet(
        sample_size=SIZE // FACTOR, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH, norm_num_groups=4, attention_head_dim=4,
    )  # fmt: skip


def stable_diffusion(folder: Path) -> Path:
    """CLIP's text encoder and byte-pair tokenizer; the scheduler that Stable Diffusion 1.5 comes with."""
    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz*"]
    units = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={unit: i for i, unit in enumerate(units)}, merges=[])
    text = CLIPTextConfig(
        vocab_size=len(units), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH, bos_token_id=len(units) - 2, eos_token_id=len(units) - 1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae(), text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet(),
        scheduler=PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def ldm(folder: Path) -> Path:
    """The text transformer that LDM-256 was trained with, called bert, and its autoencoder, called vqvae."""
    torch.manual_seed(0)
    text = LDMBertConfig(
        vocab_size=len(WORDS), max_position_embeddings=LENGTH, encoder_layers=2, encoder_ffn_dim=32,
        encoder_attention_heads=2, head_dim=16, d_model=WIDTH,
    )  # fmt: skip
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
    pipeline = LDMTextToImagePipeline(
        vqvae=vae(), bert=LDMBertModel(text), tokenizer=tokenizer, unet=unet(), scheduler=DDIMScheduler(**BETAS)
    )
    pipeline.save_pretrained(folder)
    return folder
