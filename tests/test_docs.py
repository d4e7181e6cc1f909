"""What the documents point to exists."""
import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ROWS = [line for line in (ROOT / 'docs' / 'equations.md').read_text().splitlines()
        if line.startswith('| ') and not line.startswith('| equation')]


def names_in(path: pathlib.Path) -> set[str]:
    return {n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize('row', ROWS, ids=lambda r: r[2:40])
def test_each_equation_has_a_function_and_a_test(row):
    places = re.findall(r'`([\w/.]+\.py):(\w+)`', row)
    assert len(places) == 2, row
    for path, name in places:
        assert name in names_in(ROOT / path), f'{path} has no {name}'


@pytest.mark.parametrize('document', ['README.md', 'CONTRIBUTING.md', 'docs/equations.md', 'docs/results.md'])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r'\]\((?!https?://)([^)#]+)\)', text):
        assert ((ROOT / document).parent / target).exists(), f'{document} links to {target}'


def test_readme_shows_the_two_commands():
    text = (ROOT / 'README.md').read_text()
    assert 'bash launch/local.sh' in text and 'bash launch/test.sh' in text
    assert 'launch/test.sh' in (ROOT / '.ci' / 'run').read_text()
