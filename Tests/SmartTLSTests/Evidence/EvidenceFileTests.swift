// Whole files of evidence, read as `zegel evidence verify` reads them: of any age, altered in any bit of what tells when something was
// asked for and what `_mta-sts` answered, and of both formats.

import Foundation
import Testing

@testable import SmartTLS

@Suite(.timeLimit(.minutes(2))) struct EvidenceFileTests {
    private static let year: TimeInterval = 365 * 86_400

    private static func code(_ octets: [UInt8]) async -> EvidenceError.Code? {
        do {
            _ = try await EvidenceFile.verified(octets)
            return nil
        } catch { return error.code }
    }

    /// The same deliveries and certificates, every judgement changed, and all digests made anew.
    private static func remade(
        _ parts: [MadeEvidence.Part], _ change: (Judgement) throws -> Judgement
    ) throws -> [UInt8] {
        try MadeEvidence.file(parts.map { (try change($0.judgement), $0.certificates) }).encoded()
    }

    // MARK: Age

    @Test(
        "the clock of whoever verifies decides nothing: a year later certificates, policy and month are over, and it holds",
        arguments: [year, 0, -year])
    func age(later: TimeInterval) async throws {
        let now = Date.now
        let made = try MadeEvidence(at: now - later)
        let octets = try await made.file().encoded()
        let file = try await EvidenceFile.verified(octets)
        #expect(file.judgements.map(\.verdict.outcome) == [.deliver, .deliver])
        #expect(file.judgements.map(\.verdict.reason) == [.daneAuthenticated, .stsAuthenticated])
        #expect(file.judgements[0].findings.findings.contains(.ntaCapable))
        let said = EvidenceReport(file).deliveries
        #expect(said.map(\.mtaSTS.announced) == [nil, "20251114"])
        let day = made.time.formatted(.iso8601)
        #expect(said.map(\.judgedAt) == [day, day])
    }

    @Test("dated a year later in one part of it, the same evidence does not hold: what is over was looked at")
    func dated() async throws {
        let made = try MadeEvidence(at: .now - Self.year)
        let (dane, sts) = (try await made.byDANE(), try await made.bySTS())
        let today = Int64(Date.now.timeIntervalSince1970) * 1000
        func all(_ judgement: Judgement, _ time: Int64) throws -> Judgement {
            try judgement.with(["madeAt": time, "routedAt": time])
                .withPolicy(judgement.policy.isAsked ? ["askedAt": time] : [:])
        }
        for part in [dane, sts] {
            #expect(await Self.code(try Self.remade([part]) { $0 }) == nil)
            #expect(await Self.code(try Self.remade([part]) { try all($0, today) }) == .contradicted)
            // Certificates alone, over by an hour.
            let late = made.milliseconds + 90_000_000
            #expect(await Self.code(try Self.remade([part]) { try all($0, late) }) == .contradicted)
            for member in ["madeAt", "routedAt"] {
                let octets = try Self.remade([part]) { try $0.with([member: today]) }
                #expect(await Self.code(octets) == .contradicted, "\(member)")
            }
        }
        let policy = try Self.remade([sts]) { try $0.withPolicy(["askedAt": today]) }
        #expect(await Self.code(policy) == .contradicted)
    }

    // MARK: Alterations

    /// Where the values of these members are, whatever the member that they belong to.
    private static func values(of members: [String], in octets: [UInt8]) -> [Range<Int>] {
        members.flatMap { member -> [Range<Int>] in
            let name = Array("\"\(member)\":".utf8)
            return octets.ranges(of: name).map { found in
                let rest = octets[found.upperBound...]
                let end =
                    rest.first == UInt8(ascii: "{")
                    ? rest.firstIndex(of: UInt8(ascii: "}")).map { $0 + 1 }
                    : rest.firstIndex { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") }
                return found.upperBound..<(end ?? rest.endIndex)
            }
        }
    }

    @Test("one bit altered anywhere in the times and in the answer for _mta-sts is found")
    func everyBit() async throws {
        let made = try MadeEvidence(at: .now)
        let octets = try MadeEvidence.file([try await made.bySTS()]).encoded()
        #expect(await Self.code(octets) == nil)
        let places = Self.values(of: ["madeAt", "routedAt", "askedAt", "lookup"], in: octets)
        // Three times in milliseconds, and an answer with its name, type, security, TTL and message.
        #expect(places.count == 4 && places.prefix(3).allSatisfy { $0.count == 13 })
        #expect((places.last?.count ?? 0) > 150)
        for position in places.joined() {
            for bit in 0..<8 {
                var altered = octets
                altered[position] ^= 1 << bit
                #expect(await Self.code(altered) != nil, "octet \(position), bit \(bit)")
            }
        }
    }

    @Test("who alters them and makes all digests anew has another digest than the event")
    func otherDigest() async throws {
        let made = try MadeEvidence(at: .now)
        let sts = try await made.bySTS()
        let digests = Set(try MadeEvidence.file([sts]).deliveries.map(\.digest))
        let second = made.milliseconds + 1000
        let changes: [(Judgement) throws -> Judgement] = [
            { try $0.with(["madeAt": second]) }, { try $0.with(["routedAt": second]) },
            { try $0.withPolicy(["askedAt": second]) }, { try $0.withPolicy(["lookup": nil]) },
        ]
        for change in changes {
            // By itself it holds: a second more or less changes nothing, and a policy that is held needs no answer.
            let file = try await EvidenceFile.verified(try Self.remade([sts], change))
            #expect(digests.isDisjoint(with: file.deliveries.map(\.digest)))
        }
    }

    // MARK: Formats

    /// Files that the code made that wrote that format, by `MadeEvidence` for noon UTC of 15 November 2025: their certificates, policy
    /// and month are over.
    private static func vector(_ name: String) throws -> [UInt8] {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Vectors")
        return Array(try Data(contentsOf: folder.appending(path: "\(name).json")))
    }

    @Test(
        "a file of either format is read as it was written, and holds when all in it is over",
        arguments: [1, 2])
    func vectors(format: Int) async throws {
        let octets = try Self.vector("format-\(format)")
        let file = try await EvidenceFile.verified(octets)
        #expect(try file.encoded() == octets)
        #expect(file.judgements.map(\.format) == [format, format])
        for judgement in file.judgements {
            #expect((judgement.routedAt != nil) == (format == 2))
            #expect((judgement.policy.askedAt != nil) == (format == 2 && judgement.policy.isAsked))
        }
        let said = EvidenceReport(file).deliveries
        #expect(said.map(\.reasonCode) == ["dane-authenticated", "sts-authenticated"])
        #expect(said.map(\.judgedAt) == ["2025-11-15T12:00:00Z", "2025-11-15T12:00:00Z"])
        #expect(said.map(\.mtaSTS.id) == [nil, "20251114"])
        #expect(said.map(\.mtaSTS.announced) == [nil, format == 2 ? "20251114" : nil])
        #expect(said.map(\.digest) == Self.digests[format])
    }

    /// Of the two deliveries, by format.
    private static let digests: [Int: [String]] = [
        1: [
            "11e75c7960d510734090afbe0d0408e12cb607fb266ea0b85f4a747f19358bf2",
            "4aeee144212835455684ac4bdd7ba7049119de7e8fe4d432f22e54d0c9fd8a04",
        ],
        2: [
            "98a86e9263a949360a82fc0e8c92cc7939669c5fa26afc2de98e667d14714901",
            "87c7307088cc4d00b00738284df8df6fc6f7bdde72bba0f5d4378e0a550e620c",
        ],
    ]

    @Test("a file of format 1 altered by one bit does not hold")
    func firstFormatAltered() async throws {
        let octets = try Self.vector("format-1")
        for position in stride(from: 0, to: octets.count, by: 7) {
            var altered = octets
            altered[position] ^= 1 << (position % 8)
            #expect(await Self.code(altered) != nil, "octet \(position)")
        }
    }

    @Test("a record has the members of its format: others are refused, and so are formats that are not known")
    func membersOfFormats() async throws {
        let made = try MadeEvidence(at: .now)
        let (dane, sts) = (try await made.byDANE(), try await made.bySTS())
        func first(_ judgement: Judgement) throws -> Judgement {
            try judgement.with(["format": 1, "routedAt": nil])
                .withPolicy(["askedAt": nil, "lookup": nil])
        }
        let time = made.milliseconds
        let lookup = try JSONSerialization.jsonObject(
            with: JSONEncoder().encode(try #require(sts.judgement.policy.lookup)))
        typealias Change = (Judgement) throws -> Judgement
        let rows: [(part: MadeEvidence.Part, change: Change, code: EvidenceError.Code?)] = [
            (sts, { $0 }, nil), (sts, first, nil), (dane, first, nil),
            (sts, { try first($0).with(["format": 2]) }, .unreadable),
            (sts, { try first($0).with(["routedAt": time]) }, .unreadable),
            (sts, { try first($0).withPolicy(["askedAt": time]) }, .unreadable),
            (sts, { try first($0).withPolicy(["lookup": lookup]) }, .unreadable),
            (dane, { try first($0).withPolicy(["askedAt": time]) }, .unreadable),
            (dane, { try $0.withPolicy(["askedAt": time]) }, .contradicted),
            (sts, { try $0.with(["format": 0]) }, .unreadable),
            (sts, { try $0.with(["format": 3]) }, .unreadable),
        ]
        for (number, row) in rows.enumerated() {
            #expect(await Self.code(try Self.remade([row.part], row.change)) == row.code, "row \(number)")
        }
        let unknown = try await made.file().encoded()
        let text = String(decoding: unknown, as: UTF8.self)
        // The format of the file stands between its deliveries and its judgements.
        let later = text.replacing("],\"format\":1,\"judgements\"", with: "],\"format\":2,\"judgements\"")
        #expect(later != text)
        do {
            _ = try await EvidenceFile.verified(Array(later.utf8))
            Issue.record("it is read")
        } catch { #expect(error == EvidenceError(.unreadable, "format 2 is not known")) }
    }
}

extension Judgement {
    /// The same with these members; nil: without it.
    fileprivate func with(_ members: [String: Any?]) throws -> Judgement {
        try altered { object in for (name, value) in members { object[name] = value } }
    }

    /// The same with these members of what MTA-STS said.
    fileprivate func withPolicy(_ members: [String: Any?]) throws -> Judgement {
        try alteredPolicy { policy in for (name, value) in members { policy[name] = value } }
    }
}
