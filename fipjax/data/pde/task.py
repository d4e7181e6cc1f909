"""What the command, the files and the solvers know of a task."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

SINGLE, GROUPS = 'single', 'groups'  # one array for all examples, or a group for each


@dataclasses.dataclass(frozen=True)
class Task:
    """One equation with its initial conditions.

    Attributes:
      name: as in --task.
      equation: one line for people.
      parameters: name -> default, all positive numbers.
      example: (key, points a side, parameters) -> {dataset: array of one example}, traced and mapped over keys in
        float64.
      coordinates: (points a side, parameters) -> {dataset: [points]}, NumPy.
      layout: SINGLE or GROUPS, see `layout`.
      file: PDEBench's name, with {parameter} where it names one.
      attributes: attribute of the file -> parameter.
      resolution: points a side by default.
      official: points a side of PDEBench's file.
      examples: how many PDEBench's file has.
      batch: examples solved at once. Part of the task, so that an example is always computed by the same program.
      seconds: rough time of 100 examples at `resolution` on two busy CPU cores.
      official_seconds: the same at `official`.
      shape: points a side -> {dataset: shape of one example}.
      check: raises UserError where a resolution and parameters cannot be solved; None: all can.
    """

    name: str
    equation: str
    parameters: Mapping[str, float]
    example: Callable
    coordinates: Callable
    layout: str
    file: str
    attributes: Mapping[str, str]
    resolution: int
    official: int
    examples: int
    batch: int
    seconds: float
    official_seconds: float
    shape: Callable
    check: Callable | None = None

    @property
    def gigabytes(self) -> float:
        """Size of PDEBench's file, as its shapes give it."""
        return self.bytes_of(self.examples, self.official) / 1e9

    def bytes_of(self, n: int, points: int) -> int:
        """Of the fields of n examples."""
        return 4 * n * sum(math.prod(shape) for shape in self.shape(points).values())

    def file_name(self, parameters: Mapping[str, float]) -> str:
        """PDEBench's file name, numbers as it writes them: 1 is 1.0, and five characters at most."""
        return self.file.format(**{name: str(float(value))[:5] for name, value in parameters.items()})
