// The messages of a server's first flight, read from their bodies (RFC 5246 §7.4, RFC 8422 §5.4, RFC 8446 §4.1.3).

extension ServerFlight {
    /// RFC 8446 §4.1.3: the `random` of a HelloRetryRequest, SHA-256 of "HelloRetryRequest".
    private static let retryRandom: [UInt8] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
        0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ]

    /// Reads a ServerHello or HelloRetryRequest.
    init(hello body: ArraySlice<UInt8>) throws {
        var reader = WireReader(body)
        var number = try reader.code()
        let random = try reader.take(32)
        guard try reader.vector(1).count <= 32 else { throw ServerFlightError.malformedMessage }
        let suite = try reader.code()
        let compression = try reader.number(1)
        var extensions: [UInt16: ArraySlice<UInt8>] = [:]
        // Before TLS 1.3 a server may leave the block out.
        if !reader.isAtEnd {
            var block = WireReader(try reader.vector(2))
            while !block.isAtEnd {
                let type = try block.code()
                guard extensions.updateValue(try block.vector(2), forKey: type) == nil else {
                    throw ServerFlightError.malformedMessage
                }
            }
        }
        guard reader.isAtEnd else { throw ServerFlightError.malformedMessage }
        if let selected = extensions[43] {
            guard selected.count == 2 else { throw ServerFlightError.malformedMessage }
            var reader = WireReader(selected)
            number = try reader.code()
        }
        guard let version = ProtocolVersion(rawValue: number) else { throw ServerFlightError.unknownVersion }
        self.init(version: version, suite: suite)
        compresses = compression != 0
        isRetryRequest = version == .tls13 && random.elementsEqual(Self.retryRandom)
        hasExtendedMasterSecret = extensions[23] != nil
        isRenegotiationSecure = version == .tls13 || extensions[0xff01] != nil
        if let share = extensions[51] {
            var reader = WireReader(share)
            group = try reader.code()
        }
    }

    /// Reads a Certificate message of TLS 1.2 or older.
    static func chain(_ body: ArraySlice<UInt8>) throws -> [[UInt8]] {
        var reader = WireReader(body)
        var list = WireReader(try reader.vector(3))
        guard reader.isAtEnd else { throw ServerFlightError.malformedMessage }
        var chain: [[UInt8]] = []
        while !list.isAtEnd {
            guard chain.count < ServerHelloReader.maximumCertificates else {
                throw ServerFlightError.chainTooLong
            }
            chain.append(Array(try list.vector(3)))
        }
        return chain
    }

    /// Takes group, prime and signature from a ServerKeyExchange; of other key exchanges it takes nothing.
    mutating func readKeyExchange(_ body: ArraySlice<UInt8>) throws {
        guard let suite = CipherSuite.with(code: suite) else { return }
        var reader = WireReader(body)
        switch suite.keyExchange {
        case .dhePSK, .ecdhePSK: _ = try reader.vector(2)  // The hint (RFC 4279 §3).
        case .dhe, .ecdhe: break
        default: return
        }
        switch suite.keyExchange {
        case .ecdhe, .ecdhePSK:
            // Curves other than by their number (types 1 and 2) were never used (RFC 8422 §5.4): no group.
            guard try reader.number(1) == 3 else { return }
            group = try reader.code()
            _ = try reader.vector(1)
        default:
            prime = DiffieHellmanPrime(try reader.vector(2))
            _ = try reader.vector(2)
            _ = try reader.vector(2)
        }
        let isSigned = suite.authentication != .anonymous && suite.authentication != .other
        if isSigned, version == .tls12 { signature = try reader.code() }
    }
}
