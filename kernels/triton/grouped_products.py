"""The products of one call: the launches of the Triton kernels, and the buffers that they write to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..hardware.gpus import Hardware
from ..instruments.stage import stage
from ..problem import Problem
from ..problem.tensors import LEAST_SCALE, token_dtype
from . import grouped_gemm, rows, weight_gradient
from .launch import INTERPRETED, launch
from .permutation import Order, Schedule
from .tiles import BIAS_COLUMNS, BIAS_ROWS, DESCRIPTOR_BYTES, Tile, Tiles

COLUMNS = 1024  # of a row that one program sums
COPIED = 8192  # elements that one program copies: more do not fit its registers

Operand: TypeAlias = Tensor | TensorDescriptor
Scales: TypeAlias = tuple[Tensor, Tensor] | tuple[None, None]
"""Of the rows and of the weights that are multiplied, float32."""
UNSCALED: Scales = (None, None)


@dataclass(frozen=True, kw_only=True)
class GroupedProducts:
    """The products, copies and sums of one call, on rows in expert order.

    Rows are in a buffer of R rows, those of an expert together. With ``gathered`` tokens are read where they are, by
    the route of every row; else they have been copied into the buffer by `dispatch`. ``schedules`` are the row tiles by
    their height.
    """

    problem: Problem
    tiles: Tiles
    hardware: Hardware
    order: Order
    schedules: Mapping[int, Schedule]
    gathered: bool

    @property
    def side(self) -> int:
        """Side of the square blocks that hidden rows are stored in; 0 when they are stored one after the other."""
        return 0

    def quantise(self, rows_MK: Tensor, *, of_buffer: bool) -> tuple[Tensor, Tensor]:
        """Quantise rows to float8_e4m3fn with scales (M,); nothing is written for unused rows of the buffer."""
        height, width = rows_MK.shape
        q_MK = rows_MK.new_empty(rows_MK.shape, dtype=torch.float8_e4m3fn)
        scale_M = rows_MK.new_empty(height, dtype=torch.float32)
        launch(
            rows.quantise_rows,
            height,
            rows_MK, q_MK, scale_M, self.order.route_R if of_buffer else None, *rows_MK.stride(),
            D=width, LARGEST=torch.finfo(q_MK.dtype).max, LEAST_SCALE=LEAST_SCALE,
            BLOCK_D=min(COPIED, triton.next_power_of_2(width)), UPCAST=INTERPRETED,
        )  # fmt: skip
        return q_MK, scale_M

    def scaled(self, rows_MK: Tensor, weight_scales: Tensor | None, *, of_buffer: bool) -> tuple[Tensor, Scales]:
        """Quantise rows where the weights have scales, and return both scales; else return the rows as they are."""
        if weight_scales is None:
            return rows_MK, UNSCALED
        q_MK, scale_M = self.quantise(rows_MK, of_buffer=of_buffer)
        return q_MK, (scale_M, weight_scales)

    def dispatch(self, x_TD: Tensor) -> Tensor:
        """Return the tokens as the products read them: unchanged when gathered, else copied to their rows, (R, D)."""
        if self.gathered:
            return x_TD
        schedule = self.schedules[self.tiles.up.rows]
        block = min(COPIED // schedule.rows, triton.next_power_of_2(self.problem.D))
        with stage("dispatch"):
            x_RD = x_TD.new_empty(self.order.rows, self.problem.D)
            launch(
                rows.copy_rows,
                schedule.expert_M.numel() * triton.cdiv(self.problem.D, block),
                x_TD, x_RD, schedule.expert_M, schedule.block_M, *self._rows, *x_TD.stride(),
                D=self.problem.D, CHOSEN=self.order.chosen, BLOCK_M=schedule.rows, BLOCK_D=block,
                PAD=self.side > 0, **self._pdl,
            )  # fmt: skip
        return x_RD

    def up(
        self, x: Tensor, w_up_EUD: Tensor, b_up_EU: Tensor | None, h_RU: Tensor | None, scales: Scales = UNSCALED
    ) -> Tensor:
        """Compute the hidden rows (R, F); the pre-activations go to ``h_RU`` when it is given."""
        problem, tile = self.problem, self.tiles.up
        halves = 2 if problem.gated else 1
        a_RF = x.new_empty(self.order.rows, problem.F, dtype=token_dtype(problem))
        x_operand = x if self.gathered else self._described(x, [tile.rows, tile.step])
        # One copy brings the columns of both halves as they are stored.
        w_operand = self._described(
            w_up_EUD, [1, halves, tile.columns // halves, tile.step], view=w_up_EUD.unflatten(1, (halves, problem.F))
        )
        launch(
            grouped_gemm.up,
            self._programs(tile, problem.F, tile.columns // halves),
            x_operand, w_operand, *scales, b_up_EU, a_RF, h_RU, *self._row_tiles(tile), *self._rows,
            *x.stride(), *w_up_EUD.stride(),
            D=problem.D, F=problem.F, CHOSEN=self.order.chosen, GATHER=self.gathered, GATED=problem.gated,
            ACTIVATION=problem.activation, **self._constants(tile, x_operand, w_operand),
            **self._flattened(x_operand, w_operand), **self._pdl,
        )  # fmt: skip
        return a_RF

    def down(
        self,
        a_RF: Tensor,
        w_down_EDF: Tensor,
        b_down_ED: Tensor | None,
        gates_TK: Tensor,
        scales: Scales = UNSCALED,
        *,
        scatter: bool,
    ) -> Tensor:
        """Compute weighted output rows, by route (N, D) when ``scatter``, else (R, D); (splits, …) for partial sums."""
        height = self.order.slot_N.numel() if scatter else self.order.rows
        splits = self.tiles.split_k
        dtype = token_dtype(self.problem) if splits == 1 else torch.float32
        y_SMD = a_RF.new_empty(splits, height, self.problem.D, dtype=dtype)
        _, *strides = w_down_EDF.stride()
        self._down(a_RF, w_down_EDF, b_down_ED, gates_TK, y_SMD, scales, strides=strides, nk=True, scatter=scatter)
        return y_SMD

    def tokens_gradient(self, dh_RU: Tensor, w_up_EUD: Tensor, *, scatter: bool) -> Tensor:
        """Compute dh W_up, rows of the tokens' gradient: by route (1, N, D) when ``scatter``, else (1, R, D)."""
        height = self.order.slot_N.numel() if scatter else self.order.rows
        dx_1MD = dh_RU.new_empty(1, height, self.problem.D)
        _, *strides = w_up_EUD.stride()
        self._down(dh_RU, w_up_EUD, None, None, dx_1MD, UNSCALED, strides=strides[::-1], nk=False, scatter=scatter)
        return dx_1MD

    def down_backward(
        self, dy: Tensor, w_down_EDF: Tensor, h_RU: Tensor, gates_TK: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute dh (R, U), hidden rows times gates (R, F), and the gates' gradient (N,) without the bias' part."""
        problem, tile = self.problem, self.tiles.down_backward
        dh_RU, ga_RF = torch.empty_like(h_RU), h_RU.new_empty(self.order.rows, problem.F)
        # No program writes the gradient of a route without a row.
        parts_SN = gates_TK.new_zeros(triton.cdiv(problem.F, tile.columns), gates_TK.numel())
        dy_operand = dy if self.gathered else self._described(dy, [tile.rows, tile.step])
        w_operand = self._described(w_down_EDF, [1, tile.step, tile.columns])
        launch(
            grouped_gemm.down_backward,
            self._programs(tile, problem.F, tile.columns),
            dy_operand, w_operand, h_RU, gates_TK, dh_RU, ga_RF, parts_SN, *self._row_tiles(tile), *self._rows,
            *dy.stride(), *w_down_EDF.stride(), parts_SN.stride(0),
            D=problem.D, F=problem.F, CHOSEN=self.order.chosen, GATHER=self.gathered, GATED=problem.gated,
            ACTIVATION=problem.activation, **self._constants(tile, dy_operand, w_operand),
        )  # fmt: skip
        return dh_RU, ga_RF, parts_SN.sum(0)

    def weight_gradient(self, p: Tensor, q: Tensor, *, tokens: str, shape: torch.Size) -> Tensor:
        """Compute p^T q summed over each expert's rows, (E, …); ``tokens`` says which of ``p`` and ``q`` are tokens."""
        _, M, N = shape
        tile = self.tiles.weights
        dw = p.new_empty(shape)
        gather_p, gather_q = (self.gathered and tokens == name for name in ("p", "q"))
        launch(
            weight_gradient.weight_gradient,
            self._share(tile, shape[0] * triton.cdiv(M, tile.rows) * triton.cdiv(N, tile.columns)),
            p, q, dw, *self._rows, shape[0], *p.stride(), *q.stride(),
            M=M, N=N, CHOSEN=self.order.chosen, GATHER_P=gather_p, GATHER_Q=gather_q,
            BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_B=tile.step, GROUP_M=self.tiles.group_m,
            P_TILED=self._describable(p) and not gather_p, Q_TILED=self._describable(q) and not gather_q,
            PRECISION=self.tiles.precision, UPCAST=INTERPRETED, warps=tile.warps,
            stages=self._stages_of_gather(tile) if self.gathered else tile.stages,
        )  # fmt: skip
        return dw

    def bias_gradient(self, p: Tensor, gates_TK: Tensor | None, *, tokens: bool) -> Tensor:
        """Sum each expert's rows of ``p`` times their gates, (E, …); ``tokens`` says whether the rows are tokens."""
        width = p.shape[1]
        side = 0 if tokens else self.side
        db = p.new_empty(self.problem.E, width)
        launch(
            weight_gradient.bias_gradient,
            self.problem.E * triton.cdiv(width, BIAS_COLUMNS),
            p, gates_TK, db, *self._rows, *p.stride(),
            N=width, CHOSEN=self.order.chosen, GATHER=self.gathered and tokens, SIDE=side,
            BLOCK_B=min(side or BIAS_ROWS, BIAS_ROWS), BLOCK_N=BIAS_COLUMNS, UPCAST=INTERPRETED,
        )  # fmt: skip
        return db

    def combine(self, y_SMD: Tensor, like_TD: Tensor, *, by_route: bool) -> Tensor:
        """Sum the rows of every token, (T, D)."""
        tokens, width = like_TD.shape
        block = min(COLUMNS, triton.next_power_of_2(width))
        with stage("combine"):
            y_TD = torch.empty_like(like_TD, memory_format=torch.contiguous_format)
            launch(
                rows.sum_rows,
                tokens * triton.cdiv(width, block),
                y_SMD, self.order.slot_N, y_TD, y_SMD.shape[0], y_SMD.stride(0),
                D=width, CHOSEN=self.order.chosen, BY_ROUTE=by_route, BLOCK_D=block, UPCAST=INTERPRETED, **self._pdl,
            )  # fmt: skip
        return y_TD

    def _down(
        self, a: Tensor, w: Tensor, bias: Tensor | None, gates: Tensor | None, y_SMD: Tensor, scales: Scales,
        *, strides: list[int], nk: bool, scatter: bool,
    ) -> None:  # fmt: skip
        splits, _, width = y_SMD.shape
        tile = self.tiles.down
        a_operand = self._hidden_operand(a)
        if nk:
            w_operand = self._described(w, [1, 1, tile.columns, tile.step], view=w.unsqueeze(1))
        else:
            w_operand = self._described(w, [1, tile.step, tile.columns])
        launch(
            grouped_gemm.down,
            self._programs(tile, width, tile.columns, splits),
            a_operand, w_operand, *scales, bias, gates, y_SMD, *self._row_tiles(tile), *self._rows,
            a.stride(0), w.stride(0), *strides, y_SMD.shape[1],
            N=width, K=a.shape[1], W_NK=nk, SCATTER=scatter, SPLITS=splits,
            **self._constants(tile, a_operand, w_operand), **self._flattened(a_operand, w_operand), **self._pdl,
        )  # fmt: skip

    def _row_tiles(self, tile: Tile) -> tuple[Tensor, Tensor, Tensor]:
        """Return the schedule of row tiles as high as ``tile``, and the number of tiles in use."""
        schedule = self.schedules[tile.rows]
        return schedule.expert_M, schedule.block_M, schedule.first_E[-1:]

    @property
    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.order.base_E, self.order.counts_E, self.order.route_R

    def _programs(self, tile: Tile, width: int, columns: int, splits: int = 1) -> int:
        """Return the number of programs for all row tiles of a product ``width`` wide, in tiles of ``columns``."""
        return self._share(tile, self.schedules[tile.rows].expert_M.numel() * triton.cdiv(width, columns) * splits)

    def _share(self, tile: Tile, count: int) -> int:
        """Return the number of programs for ``count`` tiles: one each, or as many as run at once when persistent."""
        if not self.tiles.persistent:
            return count
        return min(count, self.hardware.processors * tile.beside(self.problem, self.hardware))

    def _stages_of_gather(self, tile: Tile) -> int:
        """Return the stages of a gather: on NVIDIA Triton puts half of them between an index and its copy."""
        return 2 * tile.stages - 1 if self.hardware.maker == "nvidia" else tile.stages

    @property
    def _pdl(self) -> dict[str, bool]:
        """Return the option for launches that start while the one before them ends."""
        return {"pdl": self.tiles.pdl}

    def _constants(self, tile: Tile, a: Operand, b: Operand) -> dict[str, Any]:
        tiled = isinstance(a, TensorDescriptor), isinstance(b, TensorDescriptor)
        return {
            "BLOCK_M": tile.rows,
            "BLOCK_N": tile.columns,
            "BLOCK_K": tile.step,
            "GROUP_M": self.tiles.group_m,
            "SIDE": self.side,
            "A_TILED": tiled[0],
            "B_TILED": tiled[1],
            # A warp that only copies can start tensor descriptors' copies, not gather rows.
            "SPECIALISE": self.tiles.specialise and all(tiled) and self._specialisable(tile),
            "PRECISION": self.tiles.precision,
            "UPCAST": INTERPRETED,
            "warps": tile.warps,
            "stages": tile.stages,
        }

    def _flattened(self, a: Operand, b: Operand) -> dict[str, bool]:
        """Return `Tiles.flattened` of a product."""
        tiled = isinstance(a, TensorDescriptor) and isinstance(b, TensorDescriptor)
        return {"FLATTEN": self.tiles.flattened and tiled}

    def _specialisable(self, tile: Tile) -> bool:
        return tile.rows * tile.columns <= self.hardware.specialised_tile

    def _hidden_operand(self, a: Tensor) -> Operand:
        """Return hidden rows as the left operand of a product."""
        return self._described(a, [self.tiles.down.rows, self.tiles.down.step])

    def _described(self, tensor: Tensor, box: list[int], *, view: Tensor | None = None) -> Operand:
        """Return a tensor descriptor of the tensor or of a view of it, where the plan uses them and it can have one."""
        if not self._describable(tensor):
            return tensor
        described = tensor if view is None else view
        return TensorDescriptor(described, list(described.shape), list(described.stride()), box)

    def _describable(self, tensor: Tensor) -> bool:
        step = DESCRIPTOR_BYTES // tensor.element_size()
        *outer, inner = tensor.stride()
        return (
            self.tiles.descriptors
            and inner == 1
            and all(stride % step == 0 and stride > 0 for stride in outer)
            and tensor.data_ptr() % DESCRIPTOR_BYTES == 0
            and tensor.numel() > 0
        )
