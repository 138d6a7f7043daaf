"""E-mail through apprise."""

from __future__ import annotations

import logging
from urllib.parse import quote, urlsplit

from thresher.core.errors import BadConfiguration, PageUnreachable

SCHEMES = ("mailto", "mailtos")


def check_mail_server(address: str | None) -> None:
    """Refuses an address that is no mail server's.

    Raises:
        BadConfiguration: it is none; the message does not repeat it, it may hold a password.
    """
    if address is not None and urlsplit(address).scheme not in SCHEMES:
        raise BadConfiguration(
            "EMAIL_URL is no mail server: mailtos://user:password@host:port?from=sender@example.com (or mailto://)."
        )


def send_mail(server: str, recipient: str, title: str, text: str) -> None:
    """Sends one message by the server of ``EMAIL_URL``.

    Raises:
        BadConfiguration: the address cannot be used.
        PageUnreachable: the server does not take the message for now, or at all.
    """
    from apprise import Apprise, NotifyFormat  # noqa: PLC0415 # slow to import, and few send mail

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would quote the message
    mailer = Apprise()
    joined = f"{server}{'&' if urlsplit(server).query else '?'}to={quote(recipient, safe='')}"
    if not mailer.add(joined):
        raise BadConfiguration("EMAIL_URL cannot be used: see the documentation of apprise on e-mail.")
    if not mailer.notify(body=text, title=title, body_format=NotifyFormat.TEXT):
        raise PageUnreachable("The mail server of EMAIL_URL does not take the message: check it, and the recipient.")
