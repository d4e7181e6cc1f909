"""What commands do before anything else."""
import ctypes

import pytest

from fipjax import launch


class Library:
    """A C library that notes the calls."""

    def __init__(self):
        self.calls = []

    def mallopt(self, *given):
        self.calls.append(given)

    def malloc_trim(self, *given):
        self.calls.append(('trim', *given))


@pytest.mark.parametrize('environment, calls', [
    ({}, [(-8, 1), (-4, 0), (-1, -1)]), ({'MALLOC_ARENA_MAX': '4'}, [])])
def test_freed_memory_is_kept_unless_the_user_has_said_otherwise(monkeypatch, environment, calls):
    library = Library()
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: library)
    monkeypatch.delenv('MALLOC_ARENA_MAX', raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    launch.keep_memory()
    assert library.calls == calls


def test_free_memory_is_given_back(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: library)
    launch.release_memory()
    assert library.calls == [('trim', 0)]


def test_other_c_libraries_are_left_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: asked.append(name) or object())
    launch.keep_memory()
    launch.release_memory()
    assert asked == [None] * 4
