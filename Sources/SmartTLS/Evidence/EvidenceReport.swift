// Verified evidence in words.

import Foundation

/// What a file of evidence says, for people and programs.
public struct EvidenceReport: Sendable, Hashable, Codable {
    /// What MTA-STS said of a domain.
    public struct Policy: Sendable, Hashable, Codable {
        /// Such as `policy` or `absent`.
        public let state: String
        /// The id of the policy in force.
        public let id: String?
        /// The id that the domain's record announced at the time.
        public let announced: String?

        fileprivate init(_ policy: RecordedPolicy) {
            state = policy.state.rawValue
            id = policy.id
            announced = (try? policy.announcedID()) ?? nil
        }

        fileprivate var text: String {
            [id.map { "\(state) \($0)" } ?? state, announced.map { "announced \($0)" }]
                .compactMap { $0 }.joined(separator: ", ")
        }
    }

    /// One recipient.
    public struct Line: Sendable, Hashable, Codable {
        /// The message.
        public let message: String
        /// The recipient's number in it.
        public let recipient: Int32
        /// `delivered` or `refused`.
        public let kind: String
        /// The recipient domain.
        public let domain: String
        /// The host.
        public let host: String
        /// Its address.
        public let address: String
        /// When it was judged (RFC 3339, UTC).
        public let judgedAt: String
        /// The ruleset and its version.
        public let ruleset: String
        /// `deliver` or `refuse`.
        public let outcome: String
        /// Why.
        public let reasonCode: String
        /// The findings.
        public let findings: [String]
        /// What MTA-STS said of the domain.
        public let mtaSTS: Policy
        /// The remote server's answer.
        public let reply: String?
        /// The digest that its event carries.
        public let digest: String

        private enum CodingKeys: String, CodingKey {
            case message, recipient, kind, domain, host, address, ruleset, outcome, findings, reply, digest
            case judgedAt = "judged_at"
            case mtaSTS = "mta_sts"
            case reasonCode = "reason_code"
        }
    }

    /// One for each delivery or refusal.
    public let deliveries: [Line]

    /// Reads verified evidence.
    public init(_ file: EvidenceFile) {
        let judgements = Dictionary(
            file.judgements.compactMap { judgement in
                (try? judgement.encoded()).map { ($0.digest, judgement) }
            }, uniquingKeysWith: { one, _ in one })
        deliveries = file.deliveries.compactMap { entry in
            guard let judgement = judgements[entry.delivery.judgement] else { return nil }
            return Line(
                message: entry.delivery.message, recipient: entry.delivery.recipient,
                kind: entry.delivery.kind,
                domain: judgement.domain, host: judgement.host, address: judgement.address,
                judgedAt: Date(timeIntervalSince1970: Double(judgement.madeAt / 1000)).formatted(.iso8601),
                ruleset: "\(judgement.ruleset.name)/\(judgement.ruleset.version)",
                outcome: judgement.verdict.outcome.rawValue, reasonCode: judgement.verdict.reason.rawValue,
                findings: judgement.findings.findings.map(\.rawValue),
                mtaSTS: Policy(judgement.policy), reply: entry.delivery.reply,
                digest: entry.digest)
        }
    }

    /// A few lines for each.
    public var text: String {
        deliveries.map { line in
            """
            message \(line.message), recipient \(line.recipient): \(line.kind), the evidence holds
              host      \(line.host) [\(line.address)] for \(line.domain)
              judged    \(line.judgedAt) under \(line.ruleset): \(line.outcome) (\(line.reasonCode))
              findings  \(line.findings.joined(separator: ", "))
              mta-sts   \(line.mtaSTS.text)
              answer    \(line.reply ?? "none")
              digest    \(line.digest)
            """
        }.joined(separator: "\n")
    }
}
