"""The norm-preserving projection of a convolution's kernel (Section 3, equations 5-9 and Algorithm 1).

A convolution maps the gradient at its output to the gradient at its input.  The paper keeps the norm by setting
every non-zero singular value of that map to σ = sqrt(d / min(d, c)), through the kernel's Fourier transform: at each
frequency the c-to-d matrix is replaced by σ times its polar factor, the closest such matrix [Gower2004]_.

.. [Gower2004] Gower, Dijksterhuis: *Procrustes problems*, Oxford University Press, 2004.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def target(weight_shape: tuple[int, ...], stride: int = 1, relu: bool = False) -> float:
    """The singular value σ that keeps the expected norm of the gradient (equation 7).

    σ² = d / r, where r = min(d, s²c) is the rank of the map at one (folded) frequency; for a 1×1 kernel a stride
    only drops pixels and r = min(d, c).  With ``relu`` half of the gradient's energy is lost behind the
    convolution and σ grows by sqrt(2).

    Parameters
    ----------
    weight_shape : ``(d, c, k, k)``, PyTorch's layout.
    stride : the convolution's stride s.
    relu : whether a ReLU follows directly.

    Examples
    --------
    >>> target((64, 3, 3, 3))  # sqrt(64 / 3): 3 channels in, 64 out
    4.618802153517006
    >>> target((16, 64, 1, 1), relu=True) ** 2  # doctest: +ELLIPSIS
    2.00000...
    """
    d, c, k = int(weight_shape[0]), int(weight_shape[1]), int(weight_shape[-1])
    if min(d, c, k, stride) < 1:
        raise ValueError(f"a weight of shape {tuple(weight_shape)} with stride {stride} is no convolution")
    rank = min(d, c if k == 1 else stride * stride * c)
    return math.sqrt((2 if relu else 1) * d / rank)


def polar_factor(matrix: Tensor) -> Tensor:
    """The closest matrix with all singular values 1: ``P (PᴴP)^(-1/2)``, or ``(PPᴴ)^(-1/2) P`` for a wide P.

    ``matrix`` is a batch ``(..., p, q)`` of full-rank real or complex matrices.  The Gram matrix is taken on the smaller
    side, where it is regular; on the larger one it would be singular.  Its eigenvalues square the condition
    number, so Gram and eigenvectors are computed in float64; the result has the input's dtype.

    Raises ``ValueError`` if a matrix is not finite or is rank-deficient to working precision: the closest
    orthogonal matrix is then not unique.
    """
    dtype = matrix.dtype
    m = matrix.to(torch.complex128 if dtype.is_complex else torch.float64)
    wide = m.shape[-2] < m.shape[-1]
    gram = m @ m.mH if wide else m.mH @ m
    if not torch.isfinite(torch.view_as_real(gram) if gram.is_complex() else gram).all():
        raise ValueError("the kernel holds NaN or infinite values: it cannot be projected")
    values, vectors = torch.linalg.eigh(gram)
    # 1e-14 of the largest eigenvalue is 1e-7 of the largest singular value: float32's resolution of a zero.
    if (values[..., 0] <= 1e-14 * values[..., -1]).any():
        raise ValueError("the kernel is rank-deficient at some frequency (or zero): its projection is not unique")
    root = (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mH
    return (root @ m if wide else m @ root).to(dtype)


@torch.no_grad()
def project(weight: Tensor, size: int, stride: int = 1, relu: bool = False, passes: int = 1) -> Tensor:
    """The nearest norm-preserving kernel of the same shape (equation 8 and Algorithm 1).

    At each frequency of a ``size`` × ``size`` circular convolution the kernel's transform is replaced by ``target`` times
    its polar factor; then the kernel is transformed back and cropped to k × k.  A 1×1 kernel has one matrix for
    all frequencies and is exact.  For k > 1 the crop takes the singular values away from the target again (for a
    He-initialised 3→64 kernel to about ±13 %); every further pass alternates between the two sets and comes closer.

    Parameters
    ----------
    weight : ``(d, c, k, k)``, real.
    size : side of the feature map at the convolution's **output**.
    stride, relu : see :func:`target`.  A stride above 1 needs k = 1 in this version.
    passes : number of alternating projections, at least 1.

    Returns
    -------
    Tensor of ``weight``'s shape, dtype and device; detached.

    Raises
    ------
    ValueError : a kernel that is not square or larger than ``size``, rank-deficient or not finite; ``stride`` > 1 with k > 1.

    Examples
    --------
    >>> w = torch.randn(128, 64, 1, 1, generator=torch.Generator().manual_seed(0))
    >>> s = torch.linalg.svdvals(project(w, size=16, stride=2)[:, :, 0, 0])
    >>> bool(torch.allclose(s, torch.full_like(s, target(w.shape, 2))))
    True
    """
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.is_complex():
        raise ValueError(f"weight must be real and of shape (d, c, k, k), not {weight.dtype} of {tuple(weight.shape)}")
    if not isinstance(size, int):
        raise ValueError(f"size must be a whole number, the side of the square output, not {size!r}")
    k = weight.shape[-1]
    if k > size:
        raise ValueError(f"a {k}x{k} kernel does not fit on a {size}x{size} feature map")
    if stride > 1 and k > 1:
        raise ValueError(f"a {k}x{k} kernel with stride {stride} is not supported yet: use stride 1 or a 1x1 kernel")
    if passes < 1:
        raise ValueError(f"passes must be at least 1, not {passes}")
    sigma = target(tuple(weight.shape), stride, relu)
    if k == 1:
        return sigma * polar_factor(weight[:, :, 0, 0])[:, :, None, None]
    kernel = weight.double()
    for _ in range(passes):
        # The kernel is real: P(-u, -v) is the conjugate of P(u, v), and half of the spectrum is enough.
        spectrum = torch.fft.rfft2(kernel, s=(size, size)).permute(2, 3, 0, 1)
        spectrum = sigma * polar_factor(spectrum)
        kernel = torch.fft.irfft2(spectrum.permute(2, 3, 0, 1), s=(size, size))[..., :k, :k]
    return kernel.to(weight.dtype).contiguous()


def _check_conv(model: nn.Module, item: object) -> tuple[nn.Conv2d, int]:
    """A (convolution, output side) pair that :func:`project` is right for; ValueError for any other."""
    if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], int)):
        raise ValueError(f"convs must hold pairs (convolution, side of its output), not {item!r:.80}")
    conv, size = item
    if isinstance(conv, str):
        try:
            conv = model.get_submodule(conv)
        except AttributeError:
            raise ValueError(f"{type(model).__name__} has no submodule {conv!r}") from None
    if not any(conv is m for m in model.modules()):
        raise ValueError(f"{conv!r:.80} is not a submodule of {type(model).__name__}")
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.kernel_size[0] != conv.kernel_size[1]:
        raise ValueError(f"{conv!r:.80} cannot be held: only a Conv2d with one group and a square kernel can")
    if conv.stride[0] != conv.stride[1] or (conv.stride[0] > 1 and conv.kernel_size[0] > 1):
        raise ValueError(f"{conv!r:.80} cannot be held: only stride 1, or one stride both ways of a 1x1 kernel")
    if size < conv.kernel_size[0]:
        raise ValueError(f"a {conv.kernel_size[0]}x{conv.kernel_size[0]} kernel does not fit on a {size}x{size} output")
    return conv, size


class NormPreserving:
    """Hold some convolutions of ``model`` norm-preserving during training (Algorithm 1, every second step).

    Attach it to an optimiser: after every ``every``-th step the kernels are projected in place.

    Parameters
    ----------
    model : a network of :func:`paperlib.models.build` (or another with a method ``transition_convs()``), or any module
        when ``convs`` is given.
    every : project after every ``every``-th optimiser step (the paper: 2).
    convs : pairs of a convolution (or its name in ``model``) and its output's side; by default the transition convolutions
        of a ProcResNet.

    Raises
    ------
    ValueError : nothing to hold; something that is not an ordinary ``Conv2d`` of this model (one group, square kernel, one
        stride for both directions, stride 1 or a 1×1 kernel); ``every`` < 1.

    ``state_dict`` / ``load_state_dict`` carry the step counter, so that a resumed run projects at the same steps.

    Examples
    --------
    >>> from paperlib import models
    >>> net = models.build("procresnet", 20)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> with NormPreserving(net).attach(sgd) as held:
    ...     net(torch.randn(2, 3, 32, 32)).sum().backward()
    ...     sgd.step(); sgd.step()
    ...     held.steps
    2
    """

    def __init__(self, model: nn.Module, every: int = 2, convs: Iterable[tuple[nn.Conv2d, int]] | None = None):
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of at least 1 step, not {every!r}")
        if convs is None:
            find = getattr(model, "transition_convs", None)
            convs = find() if callable(find) else []
        self.convs = [_check_conv(model, item) for item in convs]
        if not self.convs:
            raise ValueError(
                f"{type(model).__name__} has no stand-alone transition convolution to hold: "
                "name them with convs=[(conv, output_size), ...]"
            )
        self.every = every
        self.steps = 0
        self._handle = None

    def attach(self, optimizer: torch.optim.Optimizer) -> NormPreserving:
        """Project after the optimiser's steps from now on."""
        self.detach()
        self._handle = optimizer.register_step_post_hook(self._after_step)
        return self

    def detach(self) -> None:
        """Stop projecting; the kernels stay as they are."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def __enter__(self) -> NormPreserving:
        return self

    def __exit__(self, *exc) -> None:
        self.detach()

    def _after_step(self, optimizer, args, kwargs) -> None:
        self.steps += 1
        if self.steps % self.every == 0:
            self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Project every held kernel now."""
        for conv, size in self.convs:
            conv.weight.copy_(project(conv.weight, size, conv.stride[0]))

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = int(state["steps"])
