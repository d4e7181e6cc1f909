"""A writer of LMDB files of format version 1, for tests: sorted keys, one branch page at most."""
import struct

PAGE = 4096


def lmdb(folder, values: dict[bytes, bytes]):
    """Writes folder/data.mdb with these values."""
    pages, leaves = [b'', b''], []  # pages 0 and 1 come last
    nodes = []

    def flush():
        leaves.append((nodes[0][0], len(pages)))
        pages.append(page(len(pages), 2, [n for _, n in nodes]))
        nodes.clear()

    for key in sorted(values):
        value, big = values[key], 0
        if len(value) > PAGE // 4:
            count = -(-(16 + len(value)) // PAGE)
            number, big = len(pages), 1
            body = struct.pack('<QHHI', number, 0, 4, count) + value
            pages.append(body.ljust(count * PAGE, b'\0'))
            pages.extend([b''] * (count - 1))
        stored = struct.pack('<Q', number) if big else value
        node = struct.pack('<HHHH', len(value) & 0xFFFF, len(value) >> 16, big, len(key)) + key + stored
        node += b'\0' * (len(node) % 2)
        if sum(len(n) + 2 for _, n in nodes) + len(node) + 2 > PAGE - 16:
            flush()
        nodes.append((key, node))
    if nodes:
        flush()
    root = 2 ** 64 - 1
    if len(leaves) == 1:
        root = leaves[0][1]
    elif leaves:
        root = len(pages)
        below = [struct.pack('<HHHH', n & 0xFFFF, n >> 16 & 0xFFFF, n >> 32, len(k)) + k + b'\0' * (len(k) % 2)
                 for k, n in [(b'', leaves[0][1]), *leaves[1:]]]
        pages.append(page(root, 1, below))
    for i in (0, 1):
        free = struct.pack('<IHHQQQQQ', PAGE, 8, 0, 0, 0, 0, 0, 2 ** 64 - 1)
        main = struct.pack('<IHHQQQQQ', 0, 0, 1 + (len(leaves) > 1), len(leaves) > 1, len(leaves), 0, len(values), root)
        meta = struct.pack('<QHHHH', i, 0, 8, 0, 0) + struct.pack('<IIQQ', 0xBEEFC0DE, 1, 0, 2 ** 30) + free + main
        pages[i] = (meta + struct.pack('<QQ', len(pages) - 1, i)).ljust(PAGE, b'\0')
    folder.mkdir(parents=True)
    (folder / 'data.mdb').write_bytes(b''.join(pages))
    (folder / 'lock.mdb').write_bytes(b'')


def page(number, flags, nodes):
    """A branch (1) or leaf (2) page."""
    at, places, body = PAGE, [], b''
    for node in nodes:
        at -= len(node)
        places.append(at)
        body = node + body
    assert 16 + 2 * len(nodes) <= at
    head = struct.pack('<QHHHH', number, 0, flags, 16 + 2 * len(nodes), at) + struct.pack(f'<{len(nodes)}H', *places)
    return head.ljust(at, b'\0') + body
