"""The PyTorch trainer: on a GPU if there is one, in bfloat16 where the processor multiplies it faster than float32."""

import contextlib
import copy
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from finetune.train.plan import IGNORED, Plan, Tokens
from finetune.weights import Weights
from server.weights import HParams
from server.weights.hugging_face import stored_name
from server.weights.layout import tensor_shapes

OPTIMIZERS = ("muon", "adam", "sgd")
STATE = "state.pt"


def new_model(hparams: HParams, weights: Weights, end_of_text: int, dropout: float = 0.0) -> GPT2LMHeadModel:
    """A GPT-2 of transformers with these weights.

    Attention has no dropout: it would cost PyTorch's fused kernel.
    """
    config = GPT2Config(
        vocab_size=hparams.n_vocab,
        n_positions=hparams.n_ctx,
        n_embd=hparams.n_embd,
        n_head=hparams.n_head,
        n_layer=hparams.n_layer,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=0.0,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )
    model = GPT2LMHeadModel(config)
    parameters = dict(model.transformer.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[stored_name(name)].copy_(torch.from_numpy(value))
    return model


def new_optimizers(model: GPT2LMHeadModel, plan: Plan) -> list[torch.optim.Optimizer]:
    """`muon`: Muon for the blocks' matrices, its steps scaled to AdamW's, and AdamW for the rest; `adam`: AdamW; `sgd`.

    Muon is Keller Jordan's (https://kellerjordan.github.io/posts/muon/), the scale that of arXiv:2502.16982. Raises
    ValueError for another name.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in trained if p.ndim == 2 and ".h." in name]
    embeddings = [p for name, p in trained if p.ndim == 2 and ".h." not in name]
    vectors: dict[str, Any] = {"params": [p for _, p in trained if p.ndim < 2], "weight_decay": 0.0}
    common: dict[str, Any] = {"lr": plan.learning_rate, "weight_decay": plan.weight_decay}

    def adamw(*groups: dict[str, Any]) -> torch.optim.Optimizer:
        return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.95), **common)

    if plan.optimizer == "muon":
        return [
            torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **common),
            adamw({"params": embeddings}, vectors),
        ]
    if plan.optimizer == "adam":
        return [adamw({"params": [*matrices, *embeddings]}, vectors)]
    if plan.optimizer == "sgd":
        return [torch.optim.SGD([{"params": [*matrices, *embeddings]}, vectors], **common)]
    raise ValueError(
        f"optimizer {plan.optimizer!r} is none of {', '.join(OPTIMIZERS)}, which PyTorch's trainer has"
    )


def prefers_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class TorchTrainer:
    """See finetune.train.plan.Trainer. Its state is one file.

    Raises ValueError for a plan with an optimizer that is none of OPTIMIZERS, or that is to be compiled where there is
    no compiler.
    """

    def __init__(self, hparams: HParams, weights: Weights, end_of_text: int, plan: Plan) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.hparams, self.plan, self.end_of_text = hparams, plan, end_of_text
        self.bfloat16 = prefers_bfloat16(self.device)
        self.model = new_model(hparams, weights, end_of_text, plan.dropout)
        torch.nn.Module.to(self.model, self.device)
        if plan.only_train_transformer_layers:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(".h." in name)
        self.averaged = copy.deepcopy(self.model).train(False)
        self._mean_loss: Callable[[torch.Tensor], torch.Tensor] = partial(
            self._cross_entropy, self.model, "mean", label_smoothing=plan.label_smoothing
        )
        if plan.compiled:
            self._compile()
        self.optimizers = new_optimizers(self.model, plan)

    def _compile(self) -> None:
        if self.device.type == "cpu":
            compiler = os.environ.get("CXX", "g++")  # as PyTorch's compiler looks for it
            if shutil.which(compiler) is None:
                raise ValueError(
                    f"compiled wants a C++ compiler, and there is no {compiler}: install one (apt-get install g++),"
                    " name yours in CXX, or leave compiled out"
                )
            # The fused kernel for processors is slower than matrix products when it goes backward.
            self.model.set_attn_implementation("eager")
            # Otherwise threads add up the gradients of embeddings in any order, and no run can be repeated. What comes
            # with it, new memory filled with NaN, would cost time.
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._mean_loss = torch.compile(self._mean_loss)

    def advance(self, batches: list[Tokens], step: int) -> float:
        """See Trainer."""
        torch.manual_seed(self.plan.seed * 1_000_003 + step)  # dropout's masks
        self.model.train()
        loss = 0.0
        for batch in batches:
            part = self._mean_loss(self._tokens(batch)) / len(batches)
            torch.autograd.backward(part)
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.rate(step)
            optimizer.step()
            optimizer.zero_grad()
        # The average follows closely at first, while the weights still change a great deal.
        weight = max(1 - self.plan.averaging, 1 / (step + 2)) if self.plan.averaging else 1.0
        with torch.no_grad():
            for mean, value in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, weight)
        return loss

    @torch.no_grad()
    def nats(self, tokens: Tokens) -> float:
        """See Trainer."""
        return self._cross_entropy(self.averaged, "sum", self._tokens(tokens)).item()

    @torch.no_grad()
    def sample(self, prompt: list[int], length: int, seed: int) -> list[int]:
        """See Trainer. Among the 40 likeliest, as gpt-2-simple's trainer samples."""
        torch.manual_seed(seed)
        ids = torch.tensor([prompt], device=self.device)
        text: list[int] = self.averaged.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=40,
            max_length=min(len(prompt) + length, self.hparams.n_ctx),
            eos_token_id=self.end_of_text,
            pad_token_id=self.end_of_text,
        )[0].tolist()[len(prompt) :]
        return text[: text.index(self.end_of_text)] if self.end_of_text in text else text

    def average(self) -> Weights:
        """See Trainer."""
        parameters = dict(self.averaged.transformer.named_parameters())
        return {
            name: parameters[stored_name(name)].detach().cpu().numpy().astype(np.float32)
            for name in tensor_shapes(self.hparams)
        }

    def save(self, folder: Path) -> None:
        """See Trainer."""
        state = {
            "model": self.model.state_dict(),
            "average": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, folder / STATE)

    def restore(self, folder: Path) -> None:
        """See Trainer."""
        state = torch.load(folder / STATE, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _tokens(self, batch: Tokens) -> torch.Tensor:
        return torch.from_numpy(batch).to(self.device)

    def _cross_entropy(
        self, model: GPT2LMHeadModel, reduction: str, tokens: torch.Tensor, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        inputs, targets = tokens[:, :-1].clamp(min=0), tokens[:, 1:]
        arithmetic = (
            torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()
        )
        with arithmetic:
            logits = model(input_ids=inputs, use_cache=False).logits
        return functional.cross_entropy(
            logits.flatten(0, 1).float(),
            targets.flatten(),
            ignore_index=IGNORED,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
