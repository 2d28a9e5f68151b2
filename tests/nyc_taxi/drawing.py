"""Helpers for tests of pictures: keep the drawn pages, and find the texts on them."""

from matplotlib.figure import Figure

from include.nyc_taxi.reports import pictures


def keep_pages(monkeypatch):
    """Return a list to which every page drawn from now on is added."""
    kept = []
    save = pictures.save

    def save_and_keep(figure, picture):
        kept.append(figure)
        save(figure, picture)

    monkeypatch.setattr(pictures, "save", save_and_keep)
    return kept


def texts(figure: Figure) -> list[str]:
    """The texts on the page itself in the order in which they were written, beginning with the title."""
    return [text.get_text() for text in figure.texts]


def all_texts(figure: Figure) -> list:
    """All visible texts on the page, including those of axes and legends."""
    figure.canvas.draw()
    found = list(figure.texts)
    for axes in figure.axes:
        found += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                # Matplotlib also makes ticks outside the view, but does not draw them.
                found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                found += [tick.label2 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_text() and text.get_visible()]


def outside_of_the_page(figure: Figure) -> list[str]:
    """The texts that are not entirely on the page."""
    width, height = figure.canvas.get_width_height()
    return [
        text.get_text()
        for text in all_texts(figure)
        for box in [text.get_window_extent()]
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]


def covering_each_other(figure: Figure) -> list[tuple[str, str]]:
    """The pairs of overlapping texts."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in all_texts(figure)]
    return [
        (one, other)
        for number, (one, box) in enumerate(boxes)
        for other, its_box in boxes[number + 1 :]
        # One pixel of overlap may be a rounding error.
        if min(box.x1, its_box.x1) - max(box.x0, its_box.x0) > 1
        and min(box.y1, its_box.y1) - max(box.y0, its_box.y0) > 1
    ]
