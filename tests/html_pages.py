"""What the tests of reports ask of a page: balanced tags, ids that are there once, nothing that is loaded from elsewhere."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Parsed(HTMLParser):
    """A page. open: tags that were never closed; loads: addresses of what it loads; links: where it leads; text: all that it says."""

    def __init__(self, page):
        super().__init__()
        self.open, self.loads, self.links, self.ids, self.tags, self.texts = [], [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        assert not [name for name in names if name.startswith("on")], (tag, attrs)
        self.tags.append(tag)
        known = dict(attrs)
        self.loads += [known[name] for name in ("src", "srcset", "data", "poster") if name in known]
        self.links += [known["href"]] if "href" in known else []
        self.ids += [known["id"]] if "id" in known else []
        if tag == "img":
            assert known["alt"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def parse(page):
    """The page, which is whole and needs nothing but itself."""
    assert page.startswith("<!doctype html>\n")
    assert len(page.encode()) < 1_500_000
    found = Parsed(page)
    assert not found.open
    assert len(found.ids) == len(set(found.ids))
    assert all(address.startswith("data:image/") for address in found.loads), found.loads
    inside = {link for link in found.links if link.startswith("#")}
    assert inside <= {f"#{name}" for name in found.ids}
    assert all(link.startswith("./") for link in {*found.links} - inside), found.links
    assert not {"script", "iframe", "object", "embed", "form", "link"} & {*found.tags}
    assert "@import" not in page
    assert "url(" not in page
    return found
