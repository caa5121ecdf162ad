"""Tables of series with times, for the tests of readers."""


def table(times, header="date,v"):
    """Return a table whose values are 0, 1, 2 ..."""
    return [header, *(f'"{time}",{number}' for number, time in enumerate(times))]


def first(file):
    """Return step, times of the first two values and of the one after the last, and the values."""
    values, index = file.series.values[0], file.series.indices[0]
    times = [*index.times(0, 2), *index.times(len(values), 1)]
    return str(file.step), times, values.tolist()
