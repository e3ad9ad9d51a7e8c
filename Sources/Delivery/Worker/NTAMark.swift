// The header field that tells the next system that a message came under NTA 7516. Its name and value are configuration.

import SMTP

/// A header field that is put in front of messages.
struct NTAMark: Sendable {
    private let name: [UInt8]
    private let line: [UInt8]

    /// - header: `Name: value`, without a line end.
    init(_ header: String) {
        name = Self.lowercased(header.utf8.prefix { $0 != UInt8(ascii: ":") })
        line = Array(header.utf8) + [0x0D, 0x0A]
    }

    /// The line for a message with this header; none where it has such a field already: the content itself is never touched.
    func line(infrontOf head: [UInt8]) -> [UInt8] {
        let isThere = HeaderBlock(head).fields.contains { Self.lowercased(head[$0.name]) == name }
        return isThere ? [] : line
    }

    private static func lowercased(_ octets: some Sequence<UInt8>) -> [UInt8] {
        octets.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
    }
}
