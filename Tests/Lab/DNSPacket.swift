// The DNS message that would have carried what a table answers, so that evidence made of it can be read again.

import DNS

/// Writes responses (RFC 1035 §4), names uncompressed.
enum DNSPacket {
    /// A response to a question.
    ///
    /// - Parameters:
    ///   - canonical: where an alias leads; nil: there is none.
    ///   - exists: false: NXDOMAIN.
    static func response(
        _ name: DomainName, _ type: DNSRecordType, _ records: [DNSRecord], canonical: DomainName? = nil,
        exists: Bool = true, ttl: UInt32
    ) -> [UInt8] {
        var answers: [UInt8] = []
        if let canonical { answers += record(name, .cname, wire(canonical), ttl) }
        for data in records { answers += record(canonical ?? name, type, octets(data), ttl) }
        let header: [UInt8] =
            [0, 0, 0x81, exists ? 0x80 : 0x83] + number(1)
            + number(records.count + (canonical == nil ? 0 : 1))
            + [0, 0, 0, 0]
        return header + wire(name) + number(Int(type.rawValue)) + number(1) + answers
    }

    private static func record(_ owner: DomainName, _ type: DNSRecordType, _ data: [UInt8], _ ttl: UInt32)
        -> [UInt8]
    {
        wire(owner) + number(Int(type.rawValue)) + number(1) + number(Int(ttl >> 16))
            + number(Int(ttl & 0xffff))
            + number(data.count) + data
    }

    private static func number(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 0xff), UInt8(value & 0xff)] }

    private static func wire(_ name: DomainName) -> [UInt8] {
        name == .root ? [0] : name.labels.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }

    private static func octets(_ data: DNSRecord) -> [UInt8] {
        switch data {
        case .address(let address): address.octets
        case .mx(let preference, let exchange): number(Int(preference)) + wire(exchange)
        case .cname(let name), .ns(let name): wire(name)
        case .txt(let strings): strings.flatMap { [UInt8(truncatingIfNeeded: $0.count)] + $0 }
        case .tlsa(let usage, let selector, let matching, let data): [usage, selector, matching] + data
        case .soa(let primary, _, _): wire(primary) + wire(.root) + Array(repeating: 0, count: 20)
        case .other(_, let octets): octets
        }
    }
}
