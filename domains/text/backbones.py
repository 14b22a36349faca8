"""Encoders of the transformers library (BERT, RoBERTa, ModernBERT ...) as networks of text diffusion."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core.nn import LabelEmbedding, Linear, NoiseEmbedding, zero_init
from ornstein.core.optional import need

__all__ = ["EncoderNetwork"]


class EncoderNetwork(nn.Module):
    """An encoder that reads both ways, from noisy tokens ``(B, N)`` or vectors ``(B, N, D)`` to ``(B, N, outputs)``.

    It is called as `TokenTransformer` is. Noise level and attributes are added to the embeddings of the tokens; the
    last hidden states are mapped to the outputs, which are zero at initialisation.

    Args:
        config: of the encoder, as its ``config.json`` says, with ``"model_type"``; ``"vocab_size"`` is replaced by
            ``inputs``.
        inputs: number of categories (for a masked model of a tokenizer, ``size + 1``), or length of the vectors.
        outputs: numbers a token of the result; None for as many as ``inputs``.
        vectors: whether the tokens are vectors.
        estimate: for vectors, whether the network is shown a former estimate of the data beside them.
        attributes: number of values of each attribute, by name.
        timed: whether the noise level counts.

    Raises:
        ImportError: transformers is missing.
        ValueError: an unknown ``model_type``, or an input that does not fit.

    Example:
        >>> config = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> network = EncoderNetwork(config | {"intermediate_size": 32}, inputs=30, timed=False)
        >>> network(torch.tensor([[3, 29, 7]])).shape
        torch.Size([1, 3, 30])
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        inputs: int,
        outputs: int | None = None,
        vectors: bool = False,
        estimate: bool = False,
        attributes: Mapping[str, int] | None = None,
        timed: bool = True,
    ) -> None:
        super().__init__()
        transformers = need("transformers", to="build encoders", extra="text")
        self.config, self.inputs, self.outputs = dict(config), inputs, outputs
        self.vectors, self.estimate, self.timed = vectors, estimate, timed
        self.attributes = dict(attributes or {})
        given = {name: value for name, value in self.config.items() if name not in ("model_type", "vocab_size")}
        kind = self.config.get("model_type")
        if kind not in transformers.CONFIG_MAPPING:
            raise ValueError(f"model_type={kind!r}: expected a model of the transformers library, such as 'bert'")
        # Its special tokens may lie outside of our vocabulary; padding, which some count positions by, gets a row of
        # its own, since it has no gradient.
        names = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        rows = 1 if vectors else inputs
        special = dict.fromkeys(names) | {"pad_token_id": rows, "vocab_size": rows + 1}
        settings = transformers.CONFIG_MAPPING[kind](**(given | special))
        self.encoder = transformers.AutoModel.from_config(settings)
        width = settings.hidden_size
        self.enter = Linear(inputs * (1 + estimate), width) if vectors else None
        self.noise = NoiseEmbedding(width) if timed else None
        self.labels = nn.ModuleDict({name: LabelEmbedding(count, width) for name, count in self.attributes.items()})
        self.leave = zero_init(Linear(width, outputs or inputs))

    @classmethod
    def from_folder(cls, folder: str | Path, inputs: int, **options: Any) -> "EncoderNetwork":
        """The network of a saved encoder: its layers and, for tokens, as many of its embeddings as there are inputs.

        Args:
            folder: with ``config.json`` and ``model.safetensors``, as transformers saves them; nothing is fetched, and
                no code of the folder is run.
            inputs: as in the constructor; tokens beyond the encoder's vocabulary (the mask, say) start at random.
            options: further constructor arguments.

        Raises:
            FileNotFoundError: no such folder.
        """
        if not (Path(folder) / "config.json").is_file():
            raise FileNotFoundError(f"{folder} has no config.json: expected a folder that transformers saved")
        transformers = need("transformers", to="read encoders", extra="text")
        saved = transformers.AutoModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        network = cls(saved.config.to_diff_dict() | {"model_type": saved.config.model_type}, inputs, **options)
        weights = saved.state_dict()
        if not network.vectors:
            name = next(n for n, p in saved.named_parameters() if p is saved.get_input_embeddings().weight)
            own = network.encoder.get_input_embeddings().weight.detach().clone()
            common = min(inputs, len(weights[name]))
            own[:common] = weights[name][:common]
            weights[name] = own
        else:
            weights = {n: w for n, w in weights.items() if w is not saved.get_input_embeddings().weight}
        fitting = {n: w for n, w in weights.items() if network.encoder.state_dict()[n].shape == w.shape}
        network.encoder.load_state_dict(fitting, strict=False)
        return network

    def forward(
        self,
        x: Tensor,
        c: Float[Tensor, "batch"] | None = None,
        *,
        mask: Bool[Tensor, "batch tokens"] | None = None,
        given: Bool[Tensor, "batch tokens"] | None = None,
        estimate: Tensor | None = None,
        **attributes: Tensor,
    ) -> Float[Tensor, "batch tokens outputs"]:
        """Evaluate the network.

        Args:
            x: the noisy state.
            c: the noise level, needed if the network is ``timed``.
            mask: True where the text is real.
            given: taken for `TokenTransformer`'s sake; tokens that are known tell it by themselves.
            estimate: what was thought of the data before, for a network that takes it.
            attributes: values ``(B,)``, -1 for "not told".
        """
        if unknown := [name for name in attributes if name not in self.attributes]:
            raise ValueError(
                f"unknown condition {unknown[0]!r}; the network's attributes: {', '.join(self.attributes)}"
            )
        if self.enter is not None:
            if self.estimate:
                x = torch.cat([x, torch.zeros_like(x) if estimate is None else estimate.to(x.dtype)], -1)
            h = self.enter(x)
        else:
            h = self.encoder.get_input_embeddings()(x)
        if self.noise is not None:
            if c is None:
                raise ValueError("c is missing: a timed network needs the noise level -log_snr / 8, (B,)")
            h = h + self.noise(c)[:, None]
        for name, embed in self.labels.items():
            value = attributes.get(name)
            h = h + embed(torch.full((len(x),), -1, device=x.device) if value is None else value)[:, None]
        seen = None if mask is None else mask.long()
        return self.leave(self.encoder(inputs_embeds=h, attention_mask=seen).last_hidden_state)
