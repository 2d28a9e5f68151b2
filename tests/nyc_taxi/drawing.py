"""What tests of pictures share: the page that a function has drawn, and what is written on it."""

from matplotlib.figure import Figure

from include.nyc_taxi.reports import pictures


def keep_pages(monkeypatch):
    """Have every page that is drawn from now on kept, in the list that is returned."""
    kept = []
    save = pictures.save

    def save_and_keep(figure, picture):
        kept.append(figure)
        save(figure, picture)

    monkeypatch.setattr(pictures, "save", save_and_keep)
    return kept


def texts(figure: Figure) -> list[str]:
    """All that is written on the page itself, in the order of writing: the title first."""
    return [text.get_text() for text in figure.texts]


def all_texts(figure: Figure) -> list:
    """Every text on the page, those of axes and legends included, as far as anything is written."""
    figure.canvas.draw()
    found = list(figure.texts)
    for axes in figure.axes:
        found += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                # Matplotlib makes some ticks out of view too, and does not draw them.
                found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                found += [tick.label2 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_text() and text.get_visible()]


def outside_of_the_page(figure: Figure) -> list[str]:
    """Texts that are not wholly on the page."""
    width, height = figure.canvas.get_width_height()
    return [
        text.get_text()
        for text in all_texts(figure)
        for box in [text.get_window_extent()]
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]


def covering_each_other(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of which one lies over the other."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in all_texts(figure)]
    return [
        (one, other)
        for number, (one, box) in enumerate(boxes)
        for other, its_box in boxes[number + 1 :]
        # A pixel is the rounding of both.
        if min(box.x1, its_box.x1) - max(box.x0, its_box.x0) > 1
        and min(box.y1, its_box.y1) - max(box.y0, its_box.y0) > 1
    ]
