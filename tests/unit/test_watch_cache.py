"""The copy of what an API server has: scripts of pages, events and breaks."""

from __future__ import annotations

import pytest

from netpolicy.watch_cache import MAX_TOUCHED, ListPage, Watch, WatchCache

A, B, C = ("shop", "a"), ("shop", "b"), ("shop", "c")


def listed(*keys: tuple[str, str], version: str = "100", now: float = 0.0) -> WatchCache[str]:
    cache: WatchCache[str] = WatchCache(resync_seconds=600)
    cache.page([(key, "1") for key in keys], version=version, token="", now=now)
    return cache


def test_pages_become_the_copy_only_when_the_last_is_here() -> None:
    cache: WatchCache[str] = WatchCache()
    assert cache.command(now=0) == ListPage(token="")
    assert not cache.page([(A, "1")], version="7", token="more", now=0)
    assert not cache.is_synced
    assert not cache.items
    assert cache.command(now=0) == ListPage(token="more")
    assert cache.page([(B, "1")], version="7", token="", now=0)
    assert dict(cache.items) == {A: "1", B: "1"}
    assert cache.command(now=0) == Watch(version="7", seconds=600)


def test_an_empty_list_is_news_the_first_time() -> None:
    cache: WatchCache[str] = WatchCache()
    assert cache.page([], version="7", token="", now=0)
    assert cache.is_synced


def test_events_move_the_copy_and_the_version_of_the_next_watch() -> None:
    cache = listed(A)
    assert cache.put(B, "1", version="101")
    assert not cache.put(B, "1", version="102"), "what is the same is no change"
    assert cache.remove(A, version="103")
    assert not cache.remove(A, version="104")
    assert dict(cache.items) == {B: "1"}
    assert cache.command(now=0) == Watch(version="104", seconds=600)


def test_an_object_that_nobody_needs_any_more_leaves() -> None:
    cache = listed(A)
    assert cache.put(A, None, version="101")
    assert not cache.put(A, None, version="102")
    assert not cache.items


def test_a_bookmark_moves_the_version_alone() -> None:
    cache = listed(A)
    cache.bookmark(version="500")
    assert cache.command(now=0) == Watch(version="500", seconds=600)
    assert dict(cache.items) == {A: "1"}


def test_a_break_lists_anew_without_emptying_and_finds_what_was_deleted_meanwhile() -> None:
    cache = listed(A, B)
    cache.broke()
    assert cache.command(now=1) == ListPage(token="")
    assert dict(cache.items) == {A: "1", B: "1"}
    assert cache.page([(B, "2"), (C, "1")], version="300", token="", now=1)
    assert dict(cache.items) == {B: "2", C: "1"}


def test_a_list_whose_token_expired_begins_again_and_forgets_its_first_half() -> None:
    cache = listed(A)
    cache.broke()
    cache.page([(B, "1")], version="200", token="more", now=1)
    cache.broke()  # 410 on the token
    assert cache.command(now=1) == ListPage(token="")
    cache.page([(C, "1")], version="300", token="", now=1)
    assert dict(cache.items) == {C: "1"}


def test_events_of_a_watch_that_was_given_up_are_not_taken() -> None:
    cache = listed(A)
    cache.broke()
    assert not cache.put(B, "1", version="101")
    assert not cache.remove(A, version="102")
    assert dict(cache.items) == {A: "1"}


def test_a_page_of_a_list_that_nobody_waits_for_is_not_taken() -> None:
    cache = listed(A)
    assert not cache.page([], version="50", token="", now=1)
    assert dict(cache.items) == {A: "1"}


@pytest.mark.parametrize("version", ["99", "", "none", "٣٠٠"])
def test_a_version_from_before_means_another_history(version: str) -> None:
    cache = listed(A)
    assert not cache.put(B, "1", version=version)
    assert cache.command(now=0) == ListPage(token="")
    assert dict(cache.items) == {A: "1"}


def test_a_list_may_be_of_an_older_version_than_what_was_watched() -> None:
    cache = listed(A, version="9000")
    cache.broke()
    cache.page([(B, "1")], version="40", token="", now=1)
    assert dict(cache.items) == {B: "1"}
    assert cache.put(C, "1", version="41")


def test_a_watch_that_says_nothing_for_long_is_followed_by_a_list() -> None:
    cache = listed(A, now=1000)
    assert cache.command(now=1599) == Watch(version="100", seconds=1)
    assert cache.command(now=1600) == ListPage(token="")
    cache.page([(A, "1")], version="100", token="", now=1600)
    assert cache.command(now=1600) == Watch(version="100", seconds=600)


def test_what_was_touched_is_told_once_and_of_a_list_what_differs() -> None:
    cache = listed(A)
    assert cache.take_touched() is None
    assert cache.take_touched() == frozenset()
    cache.put(B, "b", version="101")
    cache.remove(A, version="102")
    assert cache.take_touched() == {A, B}
    cache.broke()
    cache.page([(B, "b")], version="110", token="", now=5.0)
    assert cache.take_touched() == frozenset(), "it is what it was"
    cache.broke()
    cache.page([(A, "a"), (C, "c"), (B, "b")], version="120", token="", now=6.0)
    assert cache.take_touched() == {A, C}
    cache.broke()
    cache.page([(A, "other")], version="130", token="", now=7.0)
    assert cache.take_touched() == {A, B, C}
    assert dict(cache.items) == {A: "other"}


def test_a_list_leaves_objects_that_are_what_they_were() -> None:
    cache: WatchCache[tuple[str, ...]] = WatchCache()
    cache.page([(A, ("a", "1"))], version="7", token="", now=0)
    before = cache.items[A]
    cache.broke()
    assert not cache.page([(A, tuple("a1"))], version="8", token="", now=0)
    assert cache.items[A] is before


def test_of_more_than_can_be_named_it_is_known_that_something_changed() -> None:
    cache = listed(A)
    cache.take_touched()
    for number in range(MAX_TOUCHED + 1):
        cache.put(("default", f"pod-{number}"), "x", version=str(101 + number))
    assert cache.take_touched() is None
