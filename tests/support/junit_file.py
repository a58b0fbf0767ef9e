"""Read junit files in tests, and check them against the rules of xunit2 as pytest writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree

if TYPE_CHECKING:
    from pathlib import Path

XUNIT2 = b"""\
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:complexType name="result">
    <xs:simpleContent>
      <xs:extension base="xs:string">
        <xs:attribute name="message" type="xs:string"/>
        <xs:attribute name="type" type="xs:string"/>
      </xs:extension>
    </xs:simpleContent>
  </xs:complexType>
  <xs:complexType name="properties">
    <xs:sequence>
      <xs:element name="property" maxOccurs="unbounded">
        <xs:complexType>
          <xs:attribute name="name" type="xs:string" use="required"/>
          <xs:attribute name="value" type="xs:string" use="required"/>
        </xs:complexType>
      </xs:element>
    </xs:sequence>
  </xs:complexType>
  <xs:complexType name="testcase">
    <xs:sequence>
      <xs:element name="properties" type="properties" minOccurs="0"/>
      <xs:choice minOccurs="0" maxOccurs="unbounded">
        <xs:element name="skipped" type="result"/>
        <xs:element name="error" type="result"/>
        <xs:element name="failure" type="result"/>
        <xs:element name="system-out" type="xs:string"/>
        <xs:element name="system-err" type="xs:string"/>
      </xs:choice>
    </xs:sequence>
    <xs:attribute name="classname" type="xs:string" use="required"/>
    <xs:attribute name="name" type="xs:string" use="required"/>
    <xs:attribute name="time" type="xs:decimal" use="required"/>
  </xs:complexType>
  <xs:complexType name="testsuite">
    <xs:sequence>
      <xs:element name="properties" type="properties" minOccurs="0"/>
      <xs:element name="testcase" type="testcase" minOccurs="0" maxOccurs="unbounded"/>
    </xs:sequence>
    <xs:attribute name="name" type="xs:string" use="required"/>
    <xs:attribute name="errors" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="failures" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="skipped" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="tests" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="time" type="xs:decimal" use="required"/>
    <xs:attribute name="timestamp" type="xs:dateTime" use="required"/>
    <xs:attribute name="hostname" type="xs:string" use="required"/>
  </xs:complexType>
  <xs:element name="testsuites">
    <xs:complexType>
      <xs:sequence>
        <xs:element name="testsuite" type="testsuite" maxOccurs="unbounded"/>
      </xs:sequence>
      <xs:attribute name="name" type="xs:string"/>
    </xs:complexType>
  </xs:element>
</xs:schema>
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One test case as consumers see it."""

    name: str
    results: tuple[str, ...]
    """Tags: failure, error, skipped."""
    archives: tuple[str, ...]
    output: str
    attachments: tuple[str, ...]


def read_junit(path: Path) -> list[Case]:
    """Return the test cases of a valid file."""
    root = etree.fromstring(path.read_bytes())
    etree.XMLSchema(etree.fromstring(XUNIT2)).assertValid(root)
    return [read_case(element) for element in root.iter("testcase")]


def read_case(element: etree._Element) -> Case:
    """Return one test case; at most one ``system-out`` is right."""
    outputs = element.findall("system-out")
    assert len(outputs) <= 1
    output = (outputs[0].text or "") if outputs else ""
    lines = output.splitlines()
    start, end = "[[ATTACHMENT|", "]]"
    return Case(
        name=element.get("name") or "",
        results=tuple(str(child.tag) for child in element if child.tag in ("failure", "error", "skipped")),
        archives=tuple(
            entry.get("value") or ""
            for entry in element.iterfind("properties/property")
            if entry.get("name") == "gencore"
        ),
        output=output,
        attachments=tuple(
            line[len(start) : -len(end)] for line in lines if line.startswith(start) and line.endswith(end)
        ),
    )
