"""Images, sounds and documents: what people give, and what a message holds."""

from base64 import b64encode
from io import BytesIO

from PIL import Image
import pytest

from chatsdk import audio, Client, document, image, Media, Message, UnsupportedError, user
from chatsdk.checks import messages_from
from chatsdk.media import sniffed
from chatsdk.simulator import Simulator

PNG = b"\x89PNG\r\n\x1a\n rest"
PDF = b"%PDF-1.7 rest"
WAV = b"RIFF\0\0\0\0WAVEfmt "


@pytest.mark.parametrize(
    "data, mime",
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (WAV, "audio/wav"),
        (b"ID3\x04", "audio/mpeg"),
        (PDF, "application/pdf"),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_a_file_is_known_by_its_first_bytes(data, mime):
    assert sniffed(data) == mime


def test_the_first_argument_is_always_text_and_the_others_never_are(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)

    message = user(str(path), str(path), path, PNG)

    assert message.role == "user"
    assert message.content[0] == message.text == str(path)
    assert message.media == (
        Media("image", "image/png", PNG, name="cat.png"),
        Media("image", "image/png", PNG, name="cat.png"),
        Media("image", "image/png", PNG),
    )
    assert user("Hi") == Message("user", "Hi")


def test_the_bytes_of_a_file_count_more_than_its_name(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(b"\xff\xd8\xff\xe0")

    assert image(path).mime == "image/jpeg"


def test_a_text_file_is_a_document_by_its_name(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("notes")

    assert document(path) == Media("document", "text/plain", b"notes", name="notes.txt")


def test_a_url_is_not_fetched_and_its_kind_is_told_by_its_end_or_by_the_caller():
    assert image("https://example.com/cat?size=1") == Media(
        "image", None, url="https://example.com/cat?size=1"
    )
    assert document("https://example.com/a.pdf?x=1#2").mime == "application/pdf"
    assert audio("HTTPS://example.com/a").kind == "audio"


def test_a_data_url_is_read():
    encoded = "data:image/png;base64," + b64encode(PNG).decode()

    assert image(encoded) == Media("image", "image/png", PNG)
    assert document("data:text/plain,a%20b") == Media("document", "text/plain", b"a b")


def test_a_pil_image_is_sent_as_png():
    made = image(Image.new("RGB", (3, 2), "red"))

    assert made.mime == "image/png"
    assert Image.open(BytesIO(made.data)).size == (3, 2)


@pytest.mark.parametrize(
    "source, kind, says",
    [
        (7, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
        (b"", ValueError, "empty"),
        (b"hello", ValueError, "mime="),
        ("data:image/png;base64", ValueError, "no comma"),
        ("data:image/png;base64,?", ValueError, "base64"),
        (PDF, ValueError, "no image"),
        ("https://example.com/a.pdf", ValueError, "no image"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(source, kind, says):
    with pytest.raises(kind, match=says):
        image(source)


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="cat.png"):
        user("What is this?", str(tmp_path / "cat.png"))


def test_a_text_that_is_none_is_refused():
    with pytest.raises(TypeError, match="text must be a str"):
        user(PNG)


def test_a_kind_that_no_message_holds_is_refused():
    with pytest.raises(ValueError, match="video/mp4"):
        image(b"hello", mime="video/mp4")


def test_parts_in_openais_shape_are_taken():
    url = "data:image/png;base64," + b64encode(PNG).decode()
    given = {
        "role": "user",
        "content": [
            {"type": "text", "text": "What"},
            {"type": "image_url", "image_url": {"url": url}},
        ],
    }

    assert messages_from(given) == (
        Message("user", ("What", Media("image", "image/png", PNG))),
    )


def test_parts_that_are_all_text_are_one_text():
    assert messages_from(Message("user", ("a", "b"))) == (Message("user", "ab"),)


@pytest.mark.parametrize(
    "content, kind, says",
    [
        ([7], TypeError, r"content\[0\] must be a str or a Media, not int"),
        ([], ValueError, "content is empty"),
        (["a", {"type": "image_url", "image_url": "cat.png"}], TypeError, r"content\[1\]"),
        (["\ud800"], ValueError, "surrogate"),
    ],
)
def test_a_part_that_is_none_is_told_by_its_place(content, kind, says):
    with pytest.raises(kind, match=says):
        messages_from({"role": "user", "content": content})


def test_a_service_without_images_refuses_one_before_anything_is_sent():
    with Simulator() as simulator:
        with Client("gigachat", api_key="any", **simulator.fields("gigachat")) as client:
            with pytest.raises(UnsupportedError, match="gigachat takes no image"):
                client.chat(user("What is this?", PNG))

        assert simulator.requests == []


def test_no_repr_shows_the_bytes():
    assert "PNG" not in repr(user("What", PNG)).replace("image/png", "")
