"""Documents of exactly so many subtrees of about 1.5 KB each."""

from __future__ import annotations

from pathlib import Path

PATH = "Orders/Order"

_ORDER = """\
<Order OrderID="ORD{n:06}" OwnerCode="ZZ">
  <Pax PaxID="PAX{n}">
    <Individual><GivenName>{given}</GivenName><Surname>{surname}</Surname><Birthdate>19{year}-03-14</Birthdate></Individual>
    <EmailAddress>{given}.{n}@example.com</EmailAddress><PhoneNumber>+44 7700 9{n:05}</PhoneNumber>
    <PTC>ADT</PTC><CitizenshipCountryCode>GB</CitizenshipCountryCode>
  </Pax>
{items}  <TotalPrice><TotalAmount CurCode="EUR">{n}.50</TotalAmount><Tax CurCode="EUR">12.{cents:02}</Tax></TotalPrice>
  <PaymentTimeLimit>2026-01-31T12:00:00Z</PaymentTimeLimit>
</Order>
"""
_ITEM = """\
  <OrderItem OrderItemID="OI{n}-{m}">
    <StatusCode>CONFIRMED</StatusCode><PaxSegmentRefID>SEG{n}{m}</PaxSegmentRefID>
    <Service><Name>Seat reservation</Name><BookingClass Code="Y">Economy</BookingClass></Service>
    <Price CurCode="EUR">{m}9.{cents:02}</Price>
  </OrderItem>
"""
_GIVEN = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Frances", "Donald")
_SURNAMES = ("Example", "Sample", "Specimen", "Muster", "Modelo")


def write_orders(path: Path, count: int) -> None:
    """Writes a document whose ``PATH`` matches ``count`` subtrees, no two of them equal."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write("<Orders>\n")
        for n in range(count):
            stream.write(_order(n))
        stream.write("</Orders>\n")


def _order(n: int) -> str:
    items = "".join(_ITEM.format(n=n, m=m, cents=(n + m) % 100) for m in range(1, 4))
    return _ORDER.format(
        n=n,
        given=_GIVEN[n % len(_GIVEN)],
        surname=_SURNAMES[n % len(_SURNAMES)],
        year=40 + n % 60,
        items=items,
        cents=n % 100,
    )
