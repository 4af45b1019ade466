"""A sweep's file: groups of training runs, and perhaps a channel grid, in a few lines of YAML.

A group names parameters of :class:`paperlib.config.RunConfig`; a list is an axis, and the group is the product of its
axes.  A group may also be a list of such products.  A run that several groups name is one job.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from paperlib import _checks
from paperlib.channel_grid import GridConfig
from paperlib.config import ResolvedRun, RunConfig
from paperlib.errors import ConfigError
from paperlib.parameters import Parameters, Preset

Product = dict[str, Any]


class Job(Parameters):
    """One training run of a sweep.

    Attributes
    ----------
    config : ResolvedRun
        The run.
    given : dict
        The parameters as the file gives them: what the command line passes on.
    groups : tuple of str
        The groups that name it.
    """

    config: ResolvedRun
    given: dict[str, Any]
    groups: tuple[str, ...]

    @property
    def name(self) -> str:
        """The run's file name, without a suffix."""
        return self.config.stem()

    def arguments(self) -> list[str]:
        """The run's parameters for the command line: ``-p``, name, value, …"""
        return [word for name, value in self.given.items() for word in ("-p", name, str(value))]


class Sweep(Parameters):
    """What is to be run: parameters that all runs share, and groups of runs.

    Raises
    ------
    ConfigError
        A key is unknown, or a value is impossible.

    Examples
    --------
    >>> sweep = Sweep(preset="smoke", common={"device": "cpu"}, groups={"depth": {"depth": [11, 20], "seed": [0, 1]}})
    >>> [(job.config.depth, job.config.seed) for job in sweep.jobs()]
    [(11, 0), (20, 0), (11, 1), (20, 1)]
    """

    preset: Preset = Field(description="smoke, desk or paper")
    common: Product = Field(default_factory=dict, description="parameters of every run")
    groups: dict[str, Product | list[Product]] = Field(description="the runs, by the figure or table that needs them")
    channel_grid: Product | None = Field(None, description="parameters of a channel grid; none: no grid")

    def jobs(self) -> list[Job]:
        """The runs, each once, in the order in which they matter: seed by seed, and group by group within a seed.

        Raises
        ------
        ConfigError
            A parameter is unknown or impossible, or a group is empty; the sentence names the group.
        """
        found: dict[str, Job] = {}
        for group, given in self._points():
            try:
                config = _resolved(given)
            except ConfigError as e:
                raise ConfigError(f"groups: {group}: {e}") from None
            before = found.get(config.digest())
            groups = (*before.groups, group) if before else (group,)
            found[config.digest()] = Job(
                config=config, given=before.given if before else given, groups=tuple(dict.fromkeys(groups))
            )
        jobs = sorted(found.values(), key=lambda job: job.config.seed)  # stable: the file's order within a seed
        _check_places(jobs)
        return jobs

    def grid(self) -> GridConfig | None:
        """The channel grid, if there is one; ConfigError for parameters that cannot be."""
        if self.channel_grid is None:
            return None
        try:
            return GridConfig(**{"preset": self.preset} | self.channel_grid)
        except ConfigError as e:
            raise ConfigError(f"channel_grid: {e}") from None

    def _points(self) -> Iterator[tuple[str, Product]]:
        """Every run that a group names: the group's name and the run's parameters."""
        if not self.groups and self.channel_grid is None:
            raise ConfigError("groups: there is no group, and no channel_grid either: name at least one run")
        shared = {"preset": self.preset} | _checked("common", self.common)
        for group, products in self.groups.items():
            if not re.fullmatch(r"[\w-]+", group):  # it is a column's entry, and may become a file's name
                raise ConfigError(f"groups: the name {group!r} must be of letters, digits, _ and - only")
            for product in products if isinstance(products, list) else [products]:
                axes = {name: _axis(f"groups: {group}", name, value) for name, value in product.items()}
                _checked(f"groups: {group}", axes)
                for values in itertools.product(*axes.values()):
                    yield group, shared | dict(zip(axes, values, strict=True))
            if products == []:
                raise ConfigError(f"groups: {group}: the list is empty: name at least one run")


def _checked(where: str, parameters: Product) -> Product:
    """``parameters``, if a group may set all of them."""
    if "preset" in parameters:
        raise ConfigError(f"{where}: preset stands at the top of the file, once for all runs")
    return parameters


def _axis(where: str, name: str, value: Any) -> list[Any]:
    """The values of one parameter."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ConfigError(f"{where}: {name} is an empty list: give at least one value")
    return values


def _resolved(given: Product) -> ResolvedRun:
    """The run with these parameters; a CUDA device need not be here, so that a sweep can be planned elsewhere."""
    config = RunConfig(**given)
    if not config.device.startswith("cuda"):
        return config.resolve()
    unknown = config.checkpoint_activations is None  # depends on the device's memory, and changes no number
    return config.model_copy(update={"checkpoint_activations": False} if unknown else {}).resolve_on(config.device)


def _check_places(jobs: list[Job]) -> None:
    """Raise ConfigError if two different runs would share a folder."""
    places: dict[Path, Job] = {}
    for job in jobs:
        other = places.setdefault(job.config.place(), job)
        if other is not job:
            differ = job.config.differences(other.config.model_dump())
            raise ConfigError(
                f"groups: {job.groups[0]} and {other.groups[0]} have two runs with one folder, {job.config.place()} "
                f"({differ}): one sweep can hold only one of them"
            )


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; of two groups of one name YAML keeps the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, after the keys of the file itself were looked at; ``<<`` brings others in later."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # which YAML itself refuses
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> Sweep:
    """Read a sweep's file, and check all of it.

    Raises
    ------
    ConfigError
        It is missing, is no YAML, names something impossible, or has a key twice: one sentence with the file and
        the key.

    Examples
    --------
    >>> read("workflow/config/none.yaml")
    Traceback (most recent call last):
    paperlib.errors.ConfigError: workflow/config/none.yaml cannot be read: No such file or directory
    """
    path = _checks.path("path", path)
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror or e}") from None
    except yaml.constructor.ConstructorError as e:
        raise ConfigError(f"{path}: {' '.join(str(e).split())}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(e).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys and values, such as 'preset: desk', not {content!r:.80}")
    try:
        sweep = Sweep(**{str(name): value for name, value in content.items()})
        sweep.jobs()
        sweep.grid()
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from None
    return sweep
