"""When an image was taken: moments as people write them, and as DICOM headers tell them."""

from __future__ import annotations

from datetime import date, time, timedelta

import pytest
from pydicom.dataset import Dataset

from x2c.data.ingest.when import Moment, moment_of, parse_moment

pytestmark = pytest.mark.usefixtures("silent")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-31", Moment(date(2024, 5, 31))),
        ("20240531", Moment(date(2024, 5, 31))),
        (" 31.05.2024 ", Moment(date(2024, 5, 31))),
        ("2024-05-31 14:05", Moment(date(2024, 5, 31), time(14, 5))),
        ("2024-05-31T14:05:59", Moment(date(2024, 5, 31), time(14, 5, 59))),
        ("2024-05-31 14:05:59.250", Moment(date(2024, 5, 31), time(14, 5, 59, 250_000))),
        ("2024-05-31T14:05:59Z", Moment(date(2024, 5, 31), time(14, 5, 59), timedelta(0))),
        ("2024-05-31T14:05:59.5+02:00", Moment(date(2024, 5, 31), time(14, 5, 59, 500_000), timedelta(hours=2))),
        ("2024-05-31 14:05 -0530", Moment(date(2024, 5, 31), time(14, 5), -timedelta(hours=5, minutes=30))),
        ("20240531T140559", Moment(date(2024, 5, 31), time(14, 5, 59))),
        ("05/31/2024", Moment(date(2024, 5, 31))),
        ("31/05/2024 14:05", Moment(date(2024, 5, 31), time(14, 5))),
        ("5/5/2024", Moment(date(2024, 5, 5))),
        ("2024/05/31", Moment(date(2024, 5, 31))),
    ],
)
def test_moments_as_people_write_them(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "31/13/2024",
        "02/30/2024",
        "2024-13-01",
        "yesterday",
        "2024111",
        "240531",
        "2024-05-31 25:00",
        "14:30",
        "T14:30",
    ],
)
def test_what_is_no_moment(text):
    with pytest.raises(ValueError, match=r"^expected a date; got something else$"):
        parse_moment(text)


def test_a_day_that_could_be_a_month_is_not_guessed():
    for text in ("05/06/2024", "1/12/2024 14:30"):
        with pytest.raises(ValueError, match="day and month could be swapped"):
            parse_moment(text)


def dated(**tags: str) -> Dataset:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize(
    ("tags", "moment"),
    [
        ({}, None),
        ({"StudyDate": ""}, None),
        ({"StudyDate": "20240531", "StudyTime": "101530"}, Moment(date(2024, 5, 31), time(10, 15, 30))),
        ({"StudyDate": "20240531", "SeriesDate": "20240601"}, Moment(date(2024, 6, 1))),
        ({"SeriesDate": "20240601", "AcquisitionDate": "20240602"}, Moment(date(2024, 6, 2))),
        ({"StudyDate": "20240531", "AcquisitionDate": ""}, Moment(date(2024, 5, 31))),
        ({"StudyDate": "20240531", "StudyTime": "1015"}, Moment(date(2024, 5, 31), time(10, 15))),
        ({"StudyDate": "20240531", "StudyTime": "10"}, Moment(date(2024, 5, 31), time(10))),
        ({"StudyDate": "20240531", "StudyTime": "101530.123456"}, Moment(date(2024, 5, 31), time(10, 15, 30))),
    ],
)
def test_a_dicom_image_was_taken_when_it_was_acquired(tags, moment):
    assert moment_of(dated(**tags)) == moment


def test_hours_apart_go_both_ways_and_are_days_without_a_time():
    first, second = parse_moment("2024-05-31 22:00"), parse_moment("2024-06-01 01:30")
    assert first.hours_to(second) == second.hours_to(first) == 3.5
    assert first.hours_to(parse_moment("2024-06-01")) == 24
    assert parse_moment("2024-05-31").hours_to(first) == 0


def test_clocks_of_two_time_zones_are_compared_where_both_are_told():
    new_york, berlin = parse_moment("2024-05-31T20:00-04:00"), parse_moment("2024-06-01T03:00+02:00")
    assert new_york.hours_to(berlin) == berlin.hours_to(new_york) == 1
    assert berlin.hours_to(parse_moment("2024-06-01T03:00Z")) == 2
    assert berlin.hours_to(parse_moment("2024-06-01T03:30")) == 0.5, "a local clock without offset"
