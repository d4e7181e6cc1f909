"""Paths that published lists hold, found below manual_dir."""
from __future__ import annotations

import pathlib

from fipjax.errors import UserError


def resolve(names, manual_dir: pathlib.Path, where: str) -> list[pathlib.Path]:
    """The files that `names` stand for.

    They were written on other machines: as many of the first folders are left out of all of them as it takes to find
    the first below manual_dir.

    Raises:
      UserError: a name twice, one that leads elsewhere, one that is not found.
    """
    parts, seen = [], set()
    for name in names:
        steps = tuple(p for p in pathlib.PurePosixPath(str(name)).parts if p not in ('/', '.'))
        if '..' in steps or not steps:
            raise UserError(f'{where}: {name!r} leads elsewhere; expected the path of a file')
        if steps in seen:
            raise UserError(f'{where}: {name!r} is there twice')
        seen.add(steps)
        parts.append(steps)
    if not parts:
        raise UserError(f'{where} is empty')
    for drop in range(len(parts[0])):
        if manual_dir.joinpath(*parts[0][drop:]).is_file():
            out = [manual_dir.joinpath(*steps[drop:]) for steps in parts]
            missing = [p for p in out if not p.is_file()]
            if missing:
                raise UserError(f'{where}: {len(missing)} of {len(out)} files are missing, the first is {missing[0]}')
            return out
    raise UserError(f'{where}: no file {"/".join(parts[0])} below {manual_dir}')
