// The record types that mail delivery asks for, and their data as typed values read from RDATA octets.

/// A resource record type (RFC 1035 §3.2.2), by its number.
public struct DNSRecordType: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    /// The number on the wire.
    public let rawValue: UInt16

    /// Takes any type number.
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// IPv4 address (RFC 1035).
    public static let a = DNSRecordType(rawValue: 1)
    /// Name server (RFC 1035).
    public static let ns = DNSRecordType(rawValue: 2)
    /// Alias (RFC 1035).
    public static let cname = DNSRecordType(rawValue: 5)
    /// Start of a zone (RFC 1035).
    public static let soa = DNSRecordType(rawValue: 6)
    /// Mail exchange (RFC 5321 §5).
    public static let mx = DNSRecordType(rawValue: 15)
    /// Text (RFC 1035).
    public static let txt = DNSRecordType(rawValue: 16)
    /// IPv6 address (RFC 3596).
    public static let aaaa = DNSRecordType(rawValue: 28)
    /// TLS association (RFC 6698).
    public static let tlsa = DNSRecordType(rawValue: 52)

    private static let names: [DNSRecordType: String] = [
        .a: "A", .ns: "NS", .cname: "CNAME", .soa: "SOA", .mx: "MX", .txt: "TXT", .aaaa: "AAAA",
        .tlsa: "TLSA",
    ]

    /// The mnemonic, or `TYPEn` (RFC 3597 §5).
    public var description: String { Self.names[self] ?? "TYPE\(rawValue)" }
}

/// The data of one record.
public enum DNSRecord: Sendable, Hashable {
    /// An address: A or AAAA.
    case address(IPAddress)
    /// MX: the lower preference is tried first.
    case mx(preference: UInt16, exchange: DomainName)
    /// CNAME: the name that this one stands for.
    case cname(DomainName)
    /// NS: a name server of the zone.
    case ns(DomainName)
    /// TXT: its character strings, in order, as octets; for most uses they are joined without a space.
    case txt([[UInt8]])
    /// TLSA: usage, selector, matching type and association data (RFC 6698 §2.1), not judged here.
    case tlsa(usage: UInt8, selector: UInt8, matchingType: UInt8, data: [UInt8])
    /// SOA: primary server, serial number and the TTL of absences (RFC 2308 §5).
    case soa(primary: DomainName, serial: UInt32, minimum: UInt32)
    /// A type that is not read here: its octets.
    case other(DNSRecordType, [UInt8])

    /// Reads the RDATA of one record, whose names are not compressed.
    ///
    /// - Throws: `DNSFailure` with code `.malformed` when the octets are not what the type says.
    init(type: DNSRecordType, data: [UInt8]) throws(DNSFailure) {
        do {
            self = try DNSRecord.read(type, data)
        } catch let error {
            throw DNSFailure(.malformed, "\(type) record: \(error.reason)")
        }
    }

    private static func read(_ type: DNSRecordType, _ data: [UInt8]) throws(DomainNameError) -> DNSRecord {
        switch type {
        case .a, .aaaa:
            guard let address = IPAddress(octets: data), address.isIPv6 == (type == .aaaa) else {
                throw DomainNameError(reason: "an address of \(data.count) octets")
            }
            return .address(address)
        case .mx:
            guard data.count >= 3 else { throw DomainNameError(reason: "only \(data.count) octets") }
            return .mx(preference: UInt16(data[0]) << 8 | UInt16(data[1]), exchange: try name(data, from: 2))
        case .cname: return .cname(try name(data, from: 0))
        case .ns: return .ns(try name(data, from: 0))
        case .txt: return .txt(try strings(data))
        case .tlsa:
            guard data.count >= 3 else { throw DomainNameError(reason: "only \(data.count) octets") }
            return .tlsa(usage: data[0], selector: data[1], matchingType: data[2], data: Array(data[3...]))
        case .soa:
            var position = 0
            let primary = try DomainName(wire: data, at: &position)
            _ = try DomainName(wire: data, at: &position)
            guard data.count == position + 20 else { throw DomainNameError(reason: "wrong length") }
            return .soa(
                primary: primary, serial: number(data, at: position), minimum: number(data, at: position + 16)
            )
        default: return .other(type, data)
        }
    }

    private static func name(_ data: [UInt8], from start: Int) throws(DomainNameError) -> DomainName {
        var position = start
        let name = try DomainName(wire: data, at: &position)
        guard position == data.count else { throw DomainNameError(reason: "octets behind the name") }
        return name
    }

    private static func strings(_ data: [UInt8]) throws(DomainNameError) -> [[UInt8]] {
        var strings: [[UInt8]] = []
        var position = 0
        while position < data.count {
            let end = position + 1 + Int(data[position])
            guard end <= data.count else { throw DomainNameError(reason: "the data ends inside a string") }
            strings.append(Array(data[position + 1..<end]))
            position = end
        }
        return strings
    }

    private static func number(_ data: [UInt8], at position: Int) -> UInt32 {
        data[position..<position + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }
}
