#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Domain XML: what is read from it and what is written, as pure functions.

Everything here takes and gives text; nothing asks libvirt.  Elements are
those of https://libvirt.org/formatdomain.html and formatsnapshot.html.
"""

from collections.abc import Mapping
import dataclasses
import io
from xml.etree import ElementTree  # noqa: S405  # nosec B405

JOB_COPY = 'copy'
JOB_COMMIT = 'active-commit'


@dataclasses.dataclass(frozen=True, slots=True)
class Mirror:
    """The ``<mirror>`` of a disk: a block job with a destination.

    :param job: ``copy`` or ``active-commit``.
    :param ready: ``yes`` when both sides are in step; ``abort`` or ``pivot``
        while the job is being ended; else ``''``.
    :param source: path or export name of the destination, if any.
    """

    job: str
    ready: str
    source: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class DiskElement:
    """A ``<disk>`` as a live or inactive domain has it.

    :param target: ``vda``.
    :param device: ``disk``, ``cdrom``, ``floppy`` or ``lun``.
    :param type: ``file``, ``block``, ``network``, ...
    :param source: path of the top of the chain, or name of the network
        source; ``None`` for an empty drive.
    :param format: of the top of the chain.
    :param backing: paths below the top, from the top down.  Only a live XML
        has them all.
    """

    target: str
    device: str
    type: str
    source: str | None
    format: str
    read_only: bool
    shareable: bool
    backing: tuple[str, ...]
    mirror: Mirror | None


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """What a guest takes for its hardware."""

    arch: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a host can do.

    :param machines: machine types of its own architecture, in any spelling.
    :param cpu: its CPU, as XML.
    """

    arch: str
    machines: tuple[str, ...]
    cpu: str


def machine(domain_xml: str) -> Machine:
    """The machine type of a domain; of a live one the canonical name."""
    root = ElementTree.fromstring(domain_xml)  # noqa: S314  # nosec B314
    element = root.find('os/type')
    if element is None:
        return Machine('', '')
    return Machine(element.get('arch', ''), element.get('machine', ''))


def capabilities(text: str) -> Capabilities:
    """What virConnectGetCapabilities says."""
    root = ElementTree.fromstring(text)  # noqa: S314  # nosec B314
    cpu = root.find('host/cpu')
    arch = root.findtext('host/cpu/arch', '')
    found: dict[str, None] = {}
    for element in root.iterfind(f"guest/arch[@name='{arch}']//machine"):
        for name in (element.text, element.get('canonical')):
            if name:
                found[name] = None
    return Capabilities(
        arch,
        tuple(found),
        '' if cpu is None else ElementTree.tostring(cpu, encoding='unicode'),
    )


def disks(domain_xml: str) -> tuple[DiskElement, ...]:
    """Every disk of a domain, in the order of the XML."""
    root = ElementTree.fromstring(domain_xml)  # noqa: S314  # nosec B314
    return tuple(_disk(element) for element in root.iterfind('devices/disk'))


def disk(domain_xml: str, target: str) -> DiskElement:
    """The disk with that target.

    :raises KeyError: the domain has no such disk.
    """
    for candidate in disks(domain_xml):
        if candidate.target == target:
            return candidate
    raise KeyError(target)


def _disk(element: ElementTree.Element) -> DiskElement:
    driver = element.find('driver')
    target = element.find('target')
    mirror = element.find('mirror')
    return DiskElement(
        target='' if target is None else target.get('dev', ''),
        device=element.get('device', 'disk'),
        type=element.get('type', 'file'),
        source=_location(element.find('source')),
        format='' if driver is None else driver.get('type', ''),
        read_only=element.find('readonly') is not None,
        shareable=element.find('shareable') is not None,
        backing=_backing(element),
        mirror=None if mirror is None else _mirror(mirror),
    )


def _location(source: ElementTree.Element | None) -> str | None:
    """Path or name in a ``<source>``, whatever its type."""
    if source is None:
        return None
    for attribute in ('file', 'dev', 'name', 'dir', 'volume'):
        if attribute in source.attrib:
            return source.attrib[attribute]
    return None


def _backing(element: ElementTree.Element) -> tuple[str, ...]:
    paths = []
    layer = element.find('backingStore')
    while layer is not None:
        path = _location(layer.find('source'))
        if path is not None:
            paths.append(path)
        layer = layer.find('backingStore')
    return tuple(paths)


def _mirror(element: ElementTree.Element) -> Mirror:
    return Mirror(
        job=element.get('job', JOB_COPY),
        ready=element.get('ready', ''),
        source=_location(element.find('source')),
    )


def snapshot_xml(domain_xml: str, overlays: Mapping[str, str]) -> str:
    """A ``<domainsnapshot>`` that puts qcow2 files on top of some disks.

    A disk that is not named must be told ``snapshot='no'``: libvirt would
    otherwise snapshot it too, into a file that it names itself.

    :param overlays: target to path of the overlay.
    :raises KeyError: the domain has no such disk.
    """
    known = {one.target for one in disks(domain_xml)}
    for target in overlays:
        if target not in known:
            raise KeyError(target)
    root = ElementTree.Element('domainsnapshot')
    elements = ElementTree.SubElement(root, 'disks')
    for target in sorted(known):
        if target not in overlays:
            ElementTree.SubElement(
                elements, 'disk', {'name': target, 'snapshot': 'no'}
            )
            continue
        element = ElementTree.SubElement(
            elements,
            'disk',
            {'name': target, 'snapshot': 'external', 'type': 'file'},
        )
        ElementTree.SubElement(element, 'driver', {'type': 'qcow2'})
        ElementTree.SubElement(element, 'source', {'file': overlays[target]})
    return ElementTree.tostring(root, encoding='unicode')


def mirror_xml(socket: str, export: str) -> str:
    """Destination of a block copy: an NBD export behind a local socket."""
    root = ElementTree.Element('disk', {'type': 'network', 'device': 'disk'})
    ElementTree.SubElement(root, 'driver', {'name': 'qemu', 'type': 'raw'})
    source = ElementTree.SubElement(
        root, 'source', {'protocol': 'nbd', 'name': export}
    )
    ElementTree.SubElement(
        source, 'host', {'transport': 'unix', 'socket': socket}
    )
    return ElementTree.tostring(root, encoding='unicode')


def with_sources(
    domain_xml: str, paths: Mapping[str, str], driver_format: str = 'qcow2'
) -> str:
    """The same domain with other files under some of its disks.

    For the destination of a migration: it starts on the hand-over overlays
    and reads what lies below from their headers, so ``<backingStore>`` goes,
    as does a ``<mirror>``.  Everything else stays, byte order aside.

    :param paths: target to path of the new top of the chain.
    :param driver_format: format of the new top.
    :raises KeyError: the domain has no such file-backed disk.
    """
    root = _parse_keeping_prefixes(domain_xml)
    missing = dict(paths)
    for element in root.iterfind('devices/disk'):
        target = element.find('target')
        name = None if target is None else target.get('dev')
        if name in missing and element.get('type') == 'file':
            _replace_source(element, missing.pop(name), driver_format)
    if missing:
        raise KeyError(next(iter(missing)))
    return ElementTree.tostring(root, encoding='unicode')


def _replace_source(
    element: ElementTree.Element, path: str, driver_format: str
) -> None:
    for name in ('backingStore', 'mirror'):
        for old in element.findall(name):
            element.remove(old)
    source = element.find('source')
    if source is None:
        source = ElementTree.SubElement(element, 'source')
    source.set('file', path)
    # libvirt numbers the nodes of a live chain; the new one is not that.
    source.attrib.pop('index', None)
    driver = element.find('driver')
    if driver is None:
        driver = ElementTree.SubElement(element, 'driver', {'name': 'qemu'})
    driver.set('type', driver_format)


def _parse_keeping_prefixes(text: str) -> ElementTree.Element:
    """Parse, so that serialising gives namespaces their own prefixes back.

    Nova's metadata is read by tools that look for ``nova:instance``.
    """
    events = ElementTree.iterparse(  # noqa: S314  # nosec B314
        io.StringIO(text), events=('start-ns',)
    )
    for _event, (prefix, uri) in events:
        if prefix:
            ElementTree.register_namespace(prefix, uri)
    return ElementTree.fromstring(text)  # noqa: S314  # nosec B314
