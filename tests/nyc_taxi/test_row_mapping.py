"""Published names, codes and places of yellow 2009 and 2010 are converted to the warehouse's columns."""

import pytest

from include.nyc_taxi.errors import LoadError, ZonesError
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month

# In the fixture's squares of zones 4 and 12, and in the sea.
ZONE_4, ZONE_12, SEA = (-73.9955, 40.7004), (-73.9875, 40.7004), (-73.0, 40.0)


def places(names, *points):
    """Columns with these coordinates, one point per row."""
    longitude, latitude = names
    return {
        longitude: f"{[float(lon) for lon, _ in points]}[i + 1]",
        latitude: f"{[float(lat) for _, lat in points]}[i + 1]",
    }


def texts(name, *values):
    """A column with these texts, one per row."""
    return {name: f"{[*values]}[i + 1]"}


@pytest.fixture
def load(con, zones, write_trips):
    """Load a fictitious file of the month; return the counts, and a function for a column's values in the file's order.

    Each row's pickup is a minute after the previous one, because the rows in the table have no particular order.
    """

    def load_file(month, rows, columns):
        path = write_trips("yellow", month, rows=rows, columns=columns)
        done = load_month(con, "yellow", Month(month), path, "run 1")

        def column(name):
            found = con.execute(
                f"SELECT {name} FROM yellow_trips WHERE partition_month = ? ORDER BY pickup_datetime", [f"{month}-01"]
            )
            return [value for (value,) in found.fetchall()]

        return done.quality, column

    return load_file


START = {"2009-01": ("Start_Lon", "Start_Lat"), "2010-01": ("pickup_longitude", "pickup_latitude")}
END = {"2009-01": ("End_Lon", "End_Lat"), "2010-01": ("dropoff_longitude", "dropoff_latitude")}


@pytest.mark.parametrize("month", ["2009-01", "2010-01"])
def test_places_become_zones_and_exceptions_are_counted(load, month):
    start = places(START[month], ZONE_4, ZONE_12, (0, 0), SEA, (0, 40.7))
    end = places(END[month], ZONE_12, ZONE_12, ZONE_4, ZONE_4, ZONE_4)
    counts, column = load(month, 5, start | end)
    assert column("pickup_zone_id") == [4, 12, None, None, None]
    assert column("dropoff_zone_id") == [12, 12, 4, 4, 4]
    assert (counts["zero_pickup_zone_id"], counts["outside_pickup_zone_id"], counts["null_pickup_zone_id"]) == (2, 1, 3)
    assert (counts["zero_dropoff_zone_id"], counts["outside_dropoff_zone_id"]) == (0, 0)


def test_a_null_place_counts_neither_as_zero_nor_as_outside(load):
    columns = {"Start_Lon": "NULL::DOUBLE", "End_Lat": "NULL::DOUBLE", "Start_Lat": "0.0", "End_Lon": "-73.9"}
    counts, column = load("2009-01", 2, columns)
    assert column("pickup_zone_id") == column("dropoff_zone_id") == [None, None]
    assert not any(n for name, n in counts.items() if name.startswith(("zero_", "outside_")))


@pytest.mark.parametrize("month", ["2009-01", "2010-01"])
def test_texts_become_the_ids_of_the_data_dictionary(load, month):
    vendor, payment = ("vendor_name", "Payment_Type") if month == "2009-01" else ("vendor_id", "payment_type")
    values = ["CASH", "Credit", "No Charge", "Dispute", "CRE", "Cas", "CSH", "NOC", "DIS", "NA ", "UNK", "CREDIT"]
    vendors = ["CMT", "VTS", "DDS", *["CMT"] * 9]
    counts, column = load(month, 12, texts(payment, *values) | texts(vendor, *vendors))
    assert column("payment_type") == [2, 1, 3, 4, 1, 2, 2, 3, 4, 5, 5, 1]
    assert column("vendor_id") == [1, 2, None, *[1] * 9]
    assert counts["unknown_payment_type"] == counts["unknown_vendor_id"] == 0
    assert counts["null_vendor_id"] == 1


def test_an_unknown_text_becomes_null_and_is_counted_and_shown(load, con):
    columns = texts("payment_type", "CAS", "Bitcoin", "CRE") | {"vendor_id": "'CMT'"}
    counts, column = load("2010-01", 3, columns)
    assert column("payment_type") == [2, None, 1]
    assert counts["unknown_payment_type"] == 1
    found = con.execute("SELECT passed, value, detail FROM quality_checks WHERE rule = 'codes_known'").fetchone()
    assert found == (False, pytest.approx(1 / 3), "1 values of payment_type are not in the catalogue")


def test_all_spellings_of_flags_become_y_and_n(load):
    _, column = load("2010-01", 6, texts("store_and_fwd_flag", "0", "1", "Y", "N", "*", "1"))
    assert column("store_and_fwd_flag") == ["N", "Y", "Y", "N", None, "Y"]
    _, column = load("2009-01", 3, {"store_and_forward": "[0.0, 1.0, NULL][i + 1]"})
    assert column("store_and_fwd_flag") == ["N", "Y", None]


def test_texts_become_times(load):
    _, column = load("2009-01", 2, {"Trip_Pickup_DateTime": "strftime(TIMESTAMP '2009-01-07 08:09:10', '%c')"})
    assert [str(value) for value in column("pickup_datetime")] == ["2009-01-07 08:09:10"] * 2


def test_the_stray_index_column_is_ignored_but_not_unknown(con, zones, write_trips):
    done = load_month(con, "yellow", Month("2010-02"), write_trips("yellow", "2010-02"), "run 1")
    assert done.unknown_columns == ()


def test_without_zones_nothing_is_loaded(con, write_trips):
    with pytest.raises(ZonesError, match="run the DAG taxi_zones"):
        load_month(con, "yellow", Month("2009-01"), write_trips("yellow", "2009-01"), "run 1")
    assert con.execute("SELECT count(*) FROM yellow_trips").fetchone() == (0,)


def test_the_error_for_a_coordinate_that_is_not_a_number_names_the_file(con, zones, write_trips):
    path = write_trips("yellow", "2009-01", columns={"Start_Lon": "'west'"})
    with pytest.raises(LoadError, match=r"yellow_tripdata_2009-01\.parquet.*west"):
        load_month(con, "yellow", Month("2009-01"), path, "run 1")
