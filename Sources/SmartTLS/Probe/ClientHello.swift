// The first message of a TLS client, written octet by octet so that it can offer what no library offers any more.
// It opens a handshake that nobody means to finish: there are no keys behind it, and no mail ever follows.
//
// For TLS 1.3 the `key_share` is empty. RFC 8446 §4.2.8 allows that and obliges the server to answer with a
// HelloRetryRequest that names the group it wants (§4.1.4): a group is learnt without doing its arithmetic, also one
// with ML-KEM.

/// What a probe offers.
struct ClientHello: Sendable, Hashable {
    /// The newest and the oldest version.
    let versions: ClosedRange<ProtocolVersion>
    /// By number, in order of preference.
    let suites: [UInt16]
    /// By number, in order of preference.
    let groups: [UInt16]
    /// The name of the host (RFC 6066 §3); nil where an address was connected to.
    let serverName: String?
    /// By number, in order of preference.
    var signatures: [UInt16] = SignatureScheme.offered
    /// Whether DEFLATE is offered (RFC 3749).
    var offersCompression = true
    /// Whether the extended master secret is offered (RFC 7627).
    var offersExtendedMasterSecret = true

    /// RFC 5746 §3.3: in place of the extension where there are none.
    private static let renegotiationSignal: UInt16 = 0x00ff

    /// Writes the record.
    ///
    /// - Parameter generator: of `random` and the session id, which protect nothing here.
    func record(using generator: inout some RandomNumberGenerator) -> [UInt8] {
        var body = Octets()
        body.append16(min(versions.upperBound, .tls12).rawValue)
        body.append(Self.random(using: &generator))
        // RFC 8446 D.4: middleboxes expect one.
        body.vector8 { if offersTLS13 { $0.append(Self.random(using: &generator)) } }
        body.vector16 { list in
            for suite in suites { list.append16(suite) }
            if !hasExtensions { list.append16(Self.renegotiationSignal) }
        }
        // TLS 1.3 alone allows no other than none (RFC 8446 §4.1.2).
        body.vector8 { $0.append(offersCompression && offersOlder ? [1, 0] : [0]) }
        if hasExtensions {
            let written = extensions()
            // RFC 7685: some servers hang on a message of 256 to 511 octets.
            let length = 4 + body.octets.count + 2 + written.count
            let padding = (256...511).contains(length) ? max(0, 512 - length - 4) : nil
            body.vector16 { list in
                list.append(written)
                if let padding { list.extension(21) { $0.append(Array(repeating: 0, count: padding)) } }
            }
        }
        var record = Octets()
        record.append([22])
        record.append16(min(versions.upperBound, .tls10).rawValue)
        record.vector16 { record in
            record.append([1])
            record.vector24 { $0.append(body.octets) }
        }
        return record.octets
    }

    private var offersTLS13: Bool { versions.upperBound == .tls13 }
    private var offersOlder: Bool { versions.lowerBound < .tls13 }
    /// SSL 3.0 servers may stumble over extensions (RFC 7507 §3 tells of such).
    private var hasExtensions: Bool { versions.upperBound > .ssl3 }

    private func extensions() -> [UInt8] {
        var list = Octets()
        if let serverName {
            list.extension(0) { data in
                data.vector16 { names in
                    names.append([0])
                    names.vector16 { $0.append(Array(serverName.utf8)) }
                }
            }
        }
        if !groups.isEmpty {
            list.extension(10) { $0.vector16 { list in groups.forEach { list.append16($0) } } }
        }
        if offersOlder {
            // RFC 8422 §5.1.2: points are sent uncompressed.
            list.extension(11) { $0.append([1, 0]) }
            if offersExtendedMasterSecret { list.extension(23) { _ in } }
            list.extension(0xff01) { $0.append([0]) }
        }
        if versions.upperBound >= .tls12, !signatures.isEmpty {
            list.extension(13) { $0.vector16 { list in signatures.forEach { list.append16($0) } } }
        }
        if offersTLS13 {
            list.extension(43) { data in
                data.vector8 { list in
                    for version in ProtocolVersion.allCases.reversed() where versions.contains(version) {
                        list.append16(version.rawValue)
                    }
                }
            }
            list.extension(51) { $0.vector16 { _ in } }
        }
        return list.octets
    }

    private static func random(using generator: inout some RandomNumberGenerator) -> [UInt8] {
        (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }
}

/// Octets in the order of the network, and vectors with their length in front (RFC 8446 §3.4).
private struct Octets {
    private(set) var octets: [UInt8] = []

    mutating func append(_ more: [UInt8]) { octets += more }
    mutating func append16(_ number: UInt16) { octets += [UInt8(number >> 8), UInt8(number & 0xff)] }
    mutating func vector8(_ fill: (inout Octets) -> Void) { vector(1, fill) }
    mutating func vector16(_ fill: (inout Octets) -> Void) { vector(2, fill) }
    mutating func vector24(_ fill: (inout Octets) -> Void) { vector(3, fill) }

    mutating func `extension`(_ type: UInt16, _ fill: (inout Octets) -> Void) {
        append16(type)
        vector16(fill)
    }

    private mutating func vector(_ width: Int, _ fill: (inout Octets) -> Void) {
        var inner = Octets()
        fill(&inner)
        for place in (0..<width).reversed() { octets.append(UInt8(inner.octets.count >> (8 * place) & 0xff)) }
        octets += inner.octets
    }
}
