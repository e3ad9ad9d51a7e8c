// The answer section of a DNS message read from its octets: so that evidence shows again, without a resolver, what an answer said.

/// A DNS response (RFC 1035 §4) as far as its answer section.
public struct DNSMessage: Sendable, Hashable {
    /// One record of the answer section.
    struct Record: Sendable, Hashable {
        let owner: DomainName
        let type: DNSRecordType
        /// Its data, or nil where they are not what the type says.
        let data: DNSRecord?
    }

    /// Records of an answer section that are read at most: more than 64 KB hold.
    private static let mostRecords = 8_192
    /// Aliases that are followed.
    private static let mostAliases = 16

    /// The response code (RFC 1035 §4.1.1).
    public let responseCode: UInt8
    /// In the order of the packet; of class IN.
    let answers: [Record]

    /// Reads a response.
    ///
    /// - Throws: `DNSFailure` with code `.malformed` where it is none.
    public init(_ bytes: [UInt8]) throws(DNSFailure) {
        do {
            var reader = try Reader(bytes)
            responseCode = reader.responseCode
            answers = try reader.answers()
        } catch let error {
            throw DNSFailure(.malformed, "DNS message: \(error.reason)")
        }
    }

    /// What it says of a name and type, aliases followed.
    ///
    /// - Returns: nil where it says nothing of them, or where a record is not what its type says.
    public func outcome(of name: DomainName, _ type: DNSRecordType) -> (
        outcome: DNSAnswer.Outcome, canonicalName: DomainName
    )? {
        var name = name
        for _ in 0..<Self.mostAliases {
            let own = answers.filter { $0.owner == name && $0.type == type }
            if !own.isEmpty {
                let records = own.compactMap(\.data)
                return records.count == own.count ? (.records(records), name) : nil
            }
            guard
                case .cname(let target)? = answers.first(where: { $0.owner == name && $0.type == .cname })?
                    .data
            else {
                switch responseCode {
                case 0: return (.nodata, name)
                case 3: return (.nxdomain, name)
                default: return nil
                }
            }
            name = target
        }
        return nil
    }

    /// A cursor over the octets; every step checks its bounds.
    private struct Reader {
        let bytes: [UInt8]
        var position = 12
        let responseCode: UInt8
        let questions: Int
        let answerCount: Int

        init(_ bytes: [UInt8]) throws(DomainNameError) {
            guard bytes.count >= 12, bytes.count <= 65_535 else {
                throw DomainNameError(reason: "\(bytes.count) octets")
            }
            guard bytes[2] & 0x80 != 0 else { throw DomainNameError(reason: "a query") }
            self.bytes = bytes
            responseCode = bytes[3] & 0x0F
            questions = Int(bytes[4]) << 8 | Int(bytes[5])
            answerCount = Int(bytes[6]) << 8 | Int(bytes[7])
        }

        mutating func answers() throws(DomainNameError) -> [Record] {
            guard questions <= 1, answerCount <= DNSMessage.mostRecords else {
                throw DomainNameError(reason: "\(questions) questions, \(answerCount) answers")
            }
            for _ in 0..<questions {
                _ = try name()
                try skip(4)
            }
            var records: [Record] = []
            for _ in 0..<answerCount {
                let owner = try name()
                let type = DNSRecordType(rawValue: try number())
                let isInternet = try number() == 1
                try skip(4)
                let length = Int(try number())
                let start = position
                try skip(length)
                guard isInternet else { continue }
                records.append(
                    Record(owner: owner, type: type, data: data(of: type, from: start, to: start + length)))
            }
            return records
        }

        private mutating func skip(_ count: Int) throws(DomainNameError) {
            guard position + count <= bytes.count else { throw DomainNameError(reason: "it ends too early") }
            position += count
        }

        private mutating func number() throws(DomainNameError) -> UInt16 {
            try skip(2)
            return UInt16(bytes[position - 2]) << 8 | UInt16(bytes[position - 1])
        }

        private mutating func name() throws(DomainNameError) -> DomainName {
            var wire: [UInt8] = []
            try expand(from: &position, into: &wire)
            var start = 0
            return try DomainName(wire: wire, at: &start)
        }

        /// Writes a name out without compression (RFC 1035 §4.1.4). A pointer leads backward only, so it ends.
        private func expand(from start: inout Int, into wire: inout [UInt8]) throws(DomainNameError) {
            var at = start
            var before = start
            var isBehind = false
            let first = wire.count
            while true {
                guard at < bytes.count else { throw DomainNameError(reason: "it ends inside a name") }
                let count = Int(bytes[at])
                if count >= 0xC0 {
                    guard at + 1 < bytes.count else { throw DomainNameError(reason: "it ends inside a name") }
                    let target = (count & 0x3F) << 8 | Int(bytes[at + 1])
                    guard target < before else {
                        throw DomainNameError(reason: "a pointer that leads forward")
                    }
                    if !isBehind { start = at + 2 }
                    (isBehind, at, before) = (true, target, target)
                    continue
                }
                guard count < 64, at + count < bytes.count, wire.count - first + count < 255 else {
                    throw DomainNameError(reason: "a label or name that is too long")
                }
                wire.append(contentsOf: bytes[at...at + count])
                at += count + 1
                if count == 0 { break }
            }
            if !isBehind { start = at }
        }

        /// The data of a record, names in it written out.
        private func data(of type: DNSRecordType, from start: Int, to end: Int) -> DNSRecord? {
            var wire: [UInt8] = []
            var position = start
            do throws(DomainNameError) {
                switch type {
                case .cname, .ns: try expand(from: &position, into: &wire)
                case .mx:
                    guard end - start > 2 else { return nil }
                    wire += bytes[start..<start + 2]
                    position += 2
                    try expand(from: &position, into: &wire)
                case .soa:
                    try expand(from: &position, into: &wire)
                    try expand(from: &position, into: &wire)
                    guard position <= end else { return nil }
                    wire += bytes[position..<end]
                    position = end
                default:
                    wire = Array(bytes[start..<end])
                    position = end
                }
            } catch {
                return nil
            }
            guard position == end else { return nil }
            return try? DNSRecord(type: type, data: wire)
        }
    }
}
