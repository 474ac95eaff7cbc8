"""Telling by mail, through the relay that the installation's owner has named."""

from __future__ import annotations

import smtplib
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from broker.alerts.allowed import MailConfig
from broker.alerts.errors import NotTold
from broker.alerts.message import Message
from connectors.errors import CredentialError
from connectors.secrets import scrub, secret_from

SECONDS = 15.0
"""For each wait for the relay."""


def tell(to: str, message: Message, config: MailConfig | None, *, now: float) -> None:
    """Hand it to the relay. Raises NotTold. `now`: seconds since 1970."""
    if config is None:
        raise NotTold("no mail leaves this installation: notify.mail of the site document names no relay")
    try:
        with _relay(config) as relay:
            relay.send_message(mail_of(to, message, sender=config.sender, now=now))
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise NotTold(f"{config.host}: {scrub(_words(error))}") from error


def mail_of(to: str, message: Message, *, sender: str, now: float) -> EmailMessage:
    """The mail itself. Each message has one Message-ID, however often it is sent; later ones answer the first."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, to, message.subject
    mail["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    domain = sender.rpartition("@")[2]
    mail["Message-ID"] = f"<{message.name}@{domain}>"
    if message.name != f"{message.id}.1":
        mail["In-Reply-To"] = mail["References"] = f"<{message.id}.1@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Crossfade-Notice"] = message.id
    mail.set_content(message.text)
    return mail


def _relay(config: MailConfig) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if config.tls == "tls":
        relay: smtplib.SMTP = smtplib.SMTP_SSL(config.host, config.port, timeout=SECONDS, context=context)
    else:
        relay = smtplib.SMTP(config.host, config.port, timeout=SECONDS)
    try:
        if config.tls == "starttls":
            relay.starttls(context=context)
        if config.user:
            relay.login(config.user, _password(config))
    except BaseException:
        with suppress(OSError, smtplib.SMTPException):
            relay.close()
        raise
    return relay


def _password(config: MailConfig) -> str:
    try:
        return secret_from(config.password).reveal().strip()
    except CredentialError as error:
        raise NotTold(f"notify.mail.password: {error}") from error


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "; ".join(f"{code} {text.decode('utf-8', 'replace')}" for code, text in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
    return str(error) or type(error).__name__
