"""Work in threads: order, bounds, errors, an early end."""

import threading
import time

import pytest

from cracktool.threads import in_order, processors


def test_results_come_in_the_order_of_the_work():
    def slow_first(number):
        time.sleep(0.05 if number == 0 else 0)
        return number * 10

    assert list(in_order(slow_first, range(5), threads=3, waiting=4)) == [0, 10, 20, 30, 40]


def test_no_more_is_begun_than_may_wait():
    drawn = []
    release = threading.Event()
    results = in_order(lambda number: release.wait(10) and number, (drawn.append(n) or n for n in range(99)), threads=1,
                       waiting=3)  # fmt: skip
    threading.Timer(0.1, release.set).start()
    assert next(results) == 0
    assert len(drawn) == 4
    results.close()


def test_an_error_comes_where_its_result_was_due():
    results = in_order(lambda number: 1 / number, [1, 0, 2], threads=2, waiting=4)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_has_not_begun_when_the_user_stops_is_not_done():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.05)
        return number

    results = in_order(work, range(50), threads=1, waiting=9)
    next(results)
    results.close()
    assert len(begun) < 5


def test_there_is_a_processor():
    assert processors() >= 1
