"""Progress bars: often on a terminal, seldom and only for what takes long in a log file."""
import io
import sys

import pytest

from fipjax import bars


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize('stream, shown', [(Terminal, True), (io.StringIO, False)])
def test_short_work_leaves_nothing_in_a_log_file(stream, shown, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', stream())
    assert list(bars.bar(range(3), desc='work', unit='row')) == [0, 1, 2]
    assert ('work' in sys.stderr.getvalue()) == shown


def test_long_work_is_seen_in_a_log_file(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    monkeypatch.setattr(bars, 'LOGGED', 0.0)
    with bars.bar(total=3, desc='work', unit='row', leave=True) as bar:
        for _ in range(3):
            bar.update()
    assert '100%' in sys.stderr.getvalue() and '3/3' in sys.stderr.getvalue()


def test_none_where_none_is_wanted(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Terminal())
    assert list(bars.bar('ab', show=False, desc='work')) == ['a', 'b'] and sys.stderr.getvalue() == ''
