// The evidence of what became of a message, in one file that proves itself: deliveries, the judgements that they rest on, and the
// certificates, each known by its digest.

import Crypto
import Foundation

/// What one recipient host answered to one message, and on which judgement it was sent or refused.
public struct DeliveryEvidence: Sendable, Hashable, Codable {
    /// The message.
    public let message: String
    /// The recipient's number in it.
    public let recipient: Int32
    /// The event that tells of it; its time is in it (RFC 9562 §5.7).
    public let event: String
    /// `delivered` or `refused`.
    public let kind: String
    /// The digest of the judgement.
    public let judgement: String
    /// The remote server's answer, as it came but for control characters.
    public let reply: String?

    /// Writes a delivery down; ids in lower case.
    public init(
        message: UUID, recipient: Int32, event: UUID, kind: String, judgement: String, reply: String?
    ) {
        self.message = message.uuidString.lowercased()
        self.recipient = recipient
        self.event = event.uuidString.lowercased()
        self.kind = kind
        self.judgement = judgement
        self.reply = reply
    }

    /// The digest that the event carries: SHA-256 in hexadecimal of its parts, each behind its length in four octets, a reply that
    /// there is none of as the length 0xFFFFFFFF.
    ///
    /// By hand: a worker makes one for every message that it delivers.
    public var digest: String {
        var hash = SHA256()
        func add(_ text: String?) {
            let octets = text.map { Array($0.utf8) }
            withUnsafeBytes(of: (octets.map { UInt32($0.count) } ?? .max).bigEndian) {
                hash.update(bufferPointer: $0)
            }
            if let octets { hash.update(data: octets) }
        }
        for text in ["zegel evidence 1", message, String(recipient), event, kind, judgement] { add(text) }
        add(reply)
        return CanonicalJSON.hexadecimal(hash.finalize())
    }
}

/// An export of evidence.
public struct EvidenceFile: Sendable, Hashable, Codable {
    /// A delivery and the digest that its event carries.
    public struct Entry: Sendable, Hashable, Codable {
        /// The delivery.
        public let delivery: DeliveryEvidence
        /// The digest in the event.
        public let digest: String

        /// Takes a delivery and the digest of its event.
        public init(_ delivery: DeliveryEvidence, digest: String) {
            self.delivery = delivery
            self.digest = digest
        }
    }

    /// The format of the file.
    public static let format = 1
    /// Files that are read at most, in octets.
    public static let largest = 64 << 20

    /// `EvidenceFile.format`.
    public let format: Int
    /// What became of the message's recipients.
    public let deliveries: [Entry]
    /// The judgements, once each.
    public let judgements: [Judgement]
    /// DER of the certificates, once each.
    public let certificates: [Data]

    /// Puts a file together.
    ///
    /// - Parameter judgements: their canonical octets.
    /// - Throws: `EvidenceError` where one of them is no judgement.
    public init(deliveries: [Entry], judgements: [[UInt8]], certificates: [[UInt8]]) throws {
        format = EvidenceFile.format
        self.deliveries = deliveries
        self.judgements = try judgements.map { try CanonicalJSON.decode(Judgement.self, $0) }
        self.certificates = certificates.map { Data($0) }
    }

    /// The file's octets.
    public func encoded() throws -> [UInt8] { try CanonicalJSON.encode(self) }

    /// Reads and verifies a file: its form, every digest, and every judgement made again.
    ///
    /// - Throws: `EvidenceError`, with what does not hold.
    public static func verified(_ octets: [UInt8]) async throws(EvidenceError) -> EvidenceFile {
        guard octets.count <= largest else { throw EvidenceError(.unreadable, "it is too large") }
        let file: EvidenceFile
        var judgements: Set<String> = []
        do {
            file = try CanonicalJSON.decode(EvidenceFile.self, octets)
            guard file.format == format else {
                throw EvidenceError(.unreadable, "format \(file.format) is not known")
            }
            for judgement in file.judgements { judgements.insert(try judgement.encoded().digest) }
            for entry in file.deliveries where entry.delivery.digest != entry.digest {
                throw EvidenceError(
                    .altered, "the delivery of event \(entry.delivery.event) has another digest")
            }
        } catch let error as EvidenceError {
            throw error
        } catch {
            throw EvidenceError(.unreadable, "it is no evidence file")
        }
        guard !file.deliveries.isEmpty else { throw EvidenceError(.incomplete, "it tells of no delivery") }
        let certificates = Dictionary(
            file.certificates.map { (CanonicalJSON.digest(Array($0)), Array($0)) },
            uniquingKeysWith: { one, _ in one })
        for entry in file.deliveries where !judgements.contains(entry.delivery.judgement) {
            throw EvidenceError(.incomplete, "judgement \(entry.delivery.judgement) is missing")
        }
        let named = Set(file.deliveries.map(\.delivery.judgement))
        guard named == judgements, judgements.count == file.judgements.count else {
            throw EvidenceError(.altered, "it holds a judgement that no delivery rests on")
        }
        let used = Set(
            file.judgements.compactMap(\.connection).flatMap { $0.chain + ($0.anchor.map { [$0] } ?? []) })
        guard Set(certificates.keys) == used, certificates.count == file.certificates.count else {
            let missing = used.subtracting(certificates.keys)
            throw missing.isEmpty
                ? EvidenceError(.altered, "it holds a certificate that no judgement rests on")
                : EvidenceError(.incomplete, "certificate \(missing.sorted()[0]) is missing")
        }
        try file.checkKinds()
        for judgement in file.judgements { try await judgement.review(certificates: certificates) }
        return file
    }

    /// Whether what became of each recipient is what its judgement said: delivered where it said to deliver, and with an answer of the
    /// remote server, or refused where it said to refuse.
    private func checkKinds() throws(EvidenceError) {
        var outcomes: [String: Verdict.Outcome] = [:]
        for judgement in judgements {
            if let digest = try? judgement.encoded().digest { outcomes[digest] = judgement.verdict.outcome }
        }
        for delivery in deliveries.map(\.delivery) {
            let isSo =
                switch outcomes[delivery.judgement] {
                case .deliver: delivery.kind == "delivered" && delivery.reply != nil
                case .refuse: delivery.kind == "refused"
                case .defer, nil: false
                }
            guard isSo else {
                throw EvidenceError(
                    .contradicted, "event \(delivery.event) says \(delivery.kind), and its judgement does not"
                )
            }
        }
    }
}
