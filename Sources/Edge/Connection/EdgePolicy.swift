// Who may send what to whom: pure decisions on a control snapshot. Never an open relay.

import Ledger
import SMTP

/// The replies of an edge that are not the protocol's own.
enum EdgeReply {
    static let controlTooOld = SMTPReply(
        451, .init(4, 3, 0), "Configuration is not available, try again later")
    static let noKeys = SMTPReply(451, .init(4, 3, 0), "Messages cannot be sealed now, try again later")
    static let overloaded = SMTPReply(452, .init(4, 3, 1), "Too much is under way, try again later")
    static let storageFull = SMTPReply(452, .init(4, 3, 1), "Insufficient storage, try again later")
    static let notKept = SMTPReply(451, .init(4, 3, 0), "Message could not be kept, try again later")
    static let tooManyConnections = SMTPReply(421, .init(4, 3, 2), "Too many connections, try again later")
    static let looping = SMTPReply(554, .init(5, 4, 6), "Message is looping: too many Received headers")

    /// The answer to a message that is safe; tools rely on its form.
    static func queued(_ id: String) -> SMTPReply { SMTPReply(250, .init(2, 6, 0), "\(id) queued") }
}

/// Decisions on sender and recipients.
enum EdgePolicy {
    /// Whether the client may still act for its tenant: credentials may have been revoked since it proved them.
    static func stands(_ identity: Identity, in snapshot: ControlSnapshot) -> Bool {
        guard let tenant = snapshot.tenants[identity.tenant], !tenant.isDisabled else { return false }
        guard let (id, username) = identity.credential else { return true }
        return snapshot.credentials[username]?.id == id
    }

    /// A sender must be of a domain of the client's tenant. The null path is taken from whoever has proved a tenant: out-of-office
    /// replies and delivery reports of its own servers carry it (RFC 5321 §4.5.5), and no other tenant can be pretended by it.
    static func refusal(
        of sender: ReversePath, from identity: Identity, in snapshot: ControlSnapshot
    ) -> SMTPReply? {
        guard stands(identity, in: snapshot) else {
            return SMTPReply(530, .init(5, 7, 0), "Authentication is no longer valid")
        }
        guard let address = sender.address else { return nil }
        guard snapshot.senderDomains[address.lane] == identity.tenant else {
            return SMTPReply(550, .init(5, 7, 1), "Sender domain is not one of yours")
        }
        return nil
    }

    /// Mail goes anywhere but to bare addresses of hosts: those prove no name, so no ruleset could judge them.
    static func refusal(of recipient: EnvelopeRecipient) -> SMTPReply? {
        recipient.address.domain.isAddressLiteral
            ? SMTPReply(550, .init(5, 1, 2), "Mail to address literals is not relayed") : nil
    }
}
