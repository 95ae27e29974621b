"""Messages of the shapes that real mail has, always the same ones: name -> bytes, lines end in
CR LF, the last one too.

FOREIGN are those that a mail server mends; they go through the edge unchanged all the same.
"""

import random
from email import policy
from email.message import EmailMessage

CRLF = b"\r\n"
PLAIN_HEADER = (b"From: Alice <alice@example.net>\r\nTo: bob@example.com\r\nSubject: %s\r\n"
                b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@example.net>\r\n")


def _lines(*lines):
    return b"".join(line + CRLF for line in lines)


def _plain(name, body, header=b""):
    name = name.encode()
    return PLAIN_HEADER % (name, name) + header + CRLF + body


def _email(name, build):
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = "Alice <alice@example.net>"
    message["To"] = "bob@example.com"
    message["Subject"] = name
    message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0000"
    message["Message-ID"] = f"<{name}@example.net>"
    build(message)
    parts = [part for part in message.walk() if part.get_content_maintype() == "multipart"]
    for number, part in enumerate(parts):
        part.set_boundary(f"=-{name}-{number}-=")
    return message.as_bytes()


def _words(generator, count):
    words = ("mail edge proxy client server queue relay header envelope balance reply banner dot "
             "line stream policy verdict").split()
    return " ".join(generator.choice(words) for _ in range(count))


def _paragraphs(generator, count):
    return "".join(_words(generator, generator.randint(3, 12)) + "\n" for _ in range(count))


# ---- What mail programs write

def _alternative(message):
    generator = random.Random(1)
    text = _paragraphs(generator, 20)
    message.set_content(text)
    message.add_alternative(f"<html><body><p>{text}</p></body></html>", subtype="html")


def _attachment(kind, size):
    def build(message):
        message.set_content("See the attachment.\n")
        maintype, subtype = kind.split("/")
        message.add_attachment(random.Random(size).randbytes(size), maintype=maintype,
                               subtype=subtype, filename="file.bin")
    return build


def _related(message):
    message.set_content("An image.\n")
    message.add_alternative('<html><img src="cid:image"></html>', subtype="html")
    image = random.Random(2).randbytes(4000)
    message.get_payload()[1].add_related(image, "image", "png", cid="<image>")


def _quoted_printable(message):
    message.set_content("Grüße aus Köln – 100 % = alles\n.\n..\nFrom here\n" * 10,
                        cte="quoted-printable")


def _base64_text(message):
    message.set_content("Привет, мир\n" * 50, cte="base64")


def _encoded_names(message):
    message.replace_header("Subject", "Grüße, Привет, 你好 – a subject that is long enough to "
                                      "be folded twice")
    message.replace_header("From", "Zoë Müller <zoe@example.net>")
    message.set_content("text\n")


def _forwarded(message):
    inner = EmailMessage(policy=policy.SMTP)
    inner["From"], inner["To"], inner["Subject"] = "carol@example.org", "alice@example.net", "inner"
    inner.set_content(".leading dot\n\n.\n")
    message.set_content("forwarded\n")
    message.add_attachment(inner)


def _calendar(message):
    message.set_content("An invitation.\n")
    message.add_alternative("BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR\n", subtype="calendar",
                            params={"method": "REQUEST"})


def _mailing_list(message):
    message["List-Id"] = "A list <list.example.net>"
    message["List-Unsubscribe"] = "<mailto:list-leave@example.net>, <https://example.net/leave>"
    message["Precedence"] = "list"
    message["References"] = " ".join(f"<{n}.{n * 7}@example.net>" for n in range(30))
    message.set_content("> quoted\n> .\n>\n-- \nsignature\n")


REPORT = _lines(
    b"MIME-Version: 1.0", b"Content-Type: multipart/report; report-type=delivery-status;",
    b"\tboundary=\"b1\"", b"Auto-Submitted: auto-replied", b"", b"--b1",
    b"Content-Type: text/plain", b"", b"The mail could not be delivered.", b"", b"--b1",
    b"Content-Type: message/delivery-status", b"", b"Reporting-MTA: dns; mta.example.net", b"",
    b"Final-Recipient: rfc822; x@example.org", b"Action: failed", b"Status: 5.1.1", b"", b"--b1--")

SIGNED = _lines(
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=2026;",
    b"\th=from:to:subject:date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;",
    b"\tb=" + b"A" * 60, b"\t " + b"B" * 70, b"\t " + b"C" * 40 + b"==",
    b"Received: from a.example.net (a.example.net [192.0.2.1])",
    b"\tby b.example.net with ESMTPS id 4711",
    b"\tfor <bob@example.com>; Sun, 22 Nov 2026 09:59:00 +0000",
    b"Received: by a.example.net; Sun, 22 Nov 2026 09:58:59 +0000",
    b"Authentication-Results: b.example.net; spf=pass smtp.mailfrom=example.net")


def _mail_programs():
    return {
        "plain": _plain("plain", _lines(b"Hello Bob,", b"", b"bye", b"Alice")),
        "alternative": _email("alternative", _alternative),
        "attachment-small": _email("attachment-small", _attachment("application/pdf", 1000)),
        "attachment-large": _email("attachment-large", _attachment("application/zip", 700_000)),
        "related": _email("related", _related),
        "quoted-printable": _email("quoted-printable", _quoted_printable),
        "base64-text": _email("base64-text", _base64_text),
        "encoded-names": _email("encoded-names", _encoded_names),
        "forwarded": _email("forwarded", _forwarded),
        "calendar": _email("calendar", _calendar),
        "mailing-list": _email("mailing-list", _mailing_list),
        "delivery-report": PLAIN_HEADER % (b"report", b"report") + REPORT,
        "signed-and-relayed": SIGNED + _plain("signed", _lines(b"signed text")),
    }


# ---- Dots

def _dots():
    return {
        "dots-one": _plain("dots-one", _lines(b".")),
        "dots-first-line": _plain("dots-first-line", _lines(b".", b"text")),
        "dots-two": _plain("dots-two", _lines(b"..")),
        "dots-many": _plain("dots-many", _lines(*(b"." * n for n in range(1, 80)))),
        "dots-leading": _plain("dots-leading", _lines(b".signature", b"..x", b". ", b".\t", b"a.")),
        "dots-end": _plain("dots-end", _lines(b"text", b"", b".", b"")),
        "dots-smtp": _plain("dots-smtp", _lines(b".", b"MAIL FROM:<x@example.net>", b"QUIT")),
        "dots-everywhere": _plain("dots-everywhere", _lines(b".") * 3000),
    }


# ---- Lines

def _random_lines(seed, count):
    generator = random.Random(seed)
    alphabet = bytes(byte for byte in range(1, 256) if byte not in b"\r\n")
    return _lines(*(bytes(generator.choices(alphabet, k=generator.randint(0, 200)))
                    for _ in range(count)))


def _shapes():
    long_references = b"References:" + b"".join(b"\r\n\t<%d@example.net>" % n
                                                for n in range(500)) + CRLF
    return {
        "line-998": _plain("line-998", _lines(b"x" * 998)),
        "line-998-dot": _plain("line-998-dot", _lines(b"." + b"x" * 997)),
        "line-4000": _plain("line-4000", _lines(b"y" * 4000, b"short")),
        "line-100000": _plain("line-100000", _lines(b"z" * 100_000)),
        "spaces-at-ends": _plain("spaces-at-ends", _lines(b"text  ", b"\t", b"  ", b"end \t ")),
        "empty-lines-at-end": _plain("empty-lines-at-end", _lines(b"text") + CRLF * 20),
        "empty-lines-only": _plain("empty-lines-only", CRLF * 5),
        "from-line": _plain("from-line", _lines(b"From alice Sun Nov 22", b">From bob", b"From")),
        "many-fields": _plain("many-fields", _lines(b"text"),
                              b"".join(b"X-Field-%d: %d\r\n" % (n, n) for n in range(400))),
        "long-references": _plain("long-references", _lines(b"text"), long_references),
        "one-byte-lines": _plain("one-byte-lines", _lines(b"a") * 5000),
        "empty-body": _plain("empty-body", b""),
        "big": _plain("big", _lines(*(b"%06d " % n + b"0123456789" * 7 for n in range(20_000)))),
        "control-characters": _plain("control-characters",
                                     _lines(b"\x01\x07\x08\x0b\x0c\x1b[31m\x7f")),
    }


def _eight_bit():
    return {
        "8bit-utf8": _plain("8bit-utf8", "Grüße – 你好 🙂\r\n".encode() * 20,
                            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                            b"Content-Transfer-Encoding: 8bit\r\n"),
        "8bit-latin1": _plain("8bit-latin1", "Gr\xfc\xdfe aus K\xf6ln\r\n".encode("latin-1"),
                              b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1"
                              b"\r\nContent-Transfer-Encoding: 8bit\r\n"),
        "8bit-random": _plain("8bit-random", _random_lines(3, 300)),
        "8bit-header": _plain("8bit-header", _lines(b"text"), "X-Name: Zoë\r\n".encode()),
        "8bit-without-mime": _plain("8bit-without-mime", b"\xff\xfe\x80\r\n.\xff\r\n"),
    }


def _foreign():
    return {
        "header-only": PLAIN_HEADER % (b"header-only", b"header-only"),
        "body-only": CRLF + _lines(b"no header at all"),
        "no-header-nor-empty-line": _lines(b"just text", b".", b"more"),
        "nothing": b"",
        "one-empty-line": CRLF,
        "one-dot": _lines(b"."),
    }


FOREIGN = _foreign()
ORDINARY = {**_mail_programs(), **_dots(), **_shapes(), **_eight_bit()}
ALL = {**ORDINARY, **FOREIGN}

for _name, _message in ALL.items():
    assert b"\0" not in _message and not _message.replace(CRLF, b"").count(b"\r"), _name
    assert not _message.replace(CRLF, b"").count(b"\n"), _name
    assert _message == b"" or _message.endswith(CRLF), _name
