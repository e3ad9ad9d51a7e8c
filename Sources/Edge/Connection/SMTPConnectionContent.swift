// The content of a transaction, from the machine's question whether it may come to the answer of the group commit.

import Foundation
import Ledger
import NIOCore
import SMTP
import Sealing

extension SMTPConnectionHandler {
    func open(_ transaction: MailTransaction) {
        guard let context, let identity,
            let tenant = edge.control.current(now: Date())?.tenants[identity.tenant]
        else {
            return machine.contentDecided(EdgeReply.controlTooOld)
        }
        guard let sealer = edge.keys.sealer else { return machine.contentDecided(EdgeReply.noKeys) }
        committer = edge.committers.choose()
        guard !committer.isFull else {
            edge.metrics.overloads.increment()
            return machine.contentDecided(EdgeReply.overloaded)
        }
        let now = Date()
        if let keys = edge.replayKeys.cached(tenant: tenant.id, now: now) {
            return begin(transaction, tenant: tenant, keys: keys, sealer: sealer)
        }
        isOutstanding = true
        let replayKeys = edge.replayKeys
        context.eventLoop.makeFutureWithTask { try await replayKeys.fetch(tenant: tenant.id, now: now) }
            .assumeIsolated().whenComplete { result in
                self.isOutstanding = false
                switch result {
                case .success(let keys):
                    self.begin(transaction, tenant: tenant, keys: keys, sealer: sealer)
                case .failure(let error):
                    self.edge.logger.warning("no replay keys", metadata: ["error": "\(error)"])
                    self.machine.contentDecided(EdgeReply.notKept)
                }
                self.turn()
            }
    }

    private func begin(
        _ transaction: MailTransaction, tenant: TenantRow, keys: ReplayTagKeys, sealer: Sealer
    ) {
        let received = ReceivedHeader(
            clientName: machine.clientName ?? "unknown", clientAddress: clientAddress,
            hostName: edge.smtp.hostName, isExtended: machine.isExtended, isEncrypted: machine.isEncrypted,
            isAuthenticated: machine.isAuthenticated, smtpUTF8: transaction.smtpUTF8,
            tlsDescription: tlsDescription)
        assembly = MessageAssembly(
            transaction,
            origin: .init(received: received, tenant: tenant.id, ruleset: tenant.defaultRuleset),
            replayKeys: keys, sealer: sealer, pool: pool)
        refusal = nil
        machine.contentDecided(nil)
    }

    func take(_ slice: ByteBuffer) {
        guard let assembly else { return }
        do throws(MessageAssembly.Refusal) {
            guard let upload = try assembly.append(slice) else { return }
            // Nothing is read and nothing more taken in until these frames are committed.
            submit(.upload(upload)) { answer, _ in
                guard answer != .durable else { return }
                self.refusal = self.reply(to: answer, id: upload.messageID)
                self.discard()
            }
        } catch {
            give(up: error)
        }
    }

    private func give(up error: MessageAssembly.Refusal) {
        switch error {
        case .looping:
            refusal = EdgeReply.looping
            reject(.mailLoop)
        case .unsealable(let error):
            refusal = EdgeReply.noKeys
            edge.logger.error("a message could not be sealed", metadata: ["error": "\(error)"])
        }
        discard()
    }

    func commit(hasEightBit: Bool) {
        guard let assembly else { return machine.transactionDecided(refusal ?? EdgeReply.notKept) }
        do throws(MessageAssembly.Refusal) {
            guard let last = try assembly.seal() else { return finish(assembly, hasEightBit: hasEightBit) }
            submit(.upload(last)) { answer, _ in
                if answer == .durable { return self.finish(assembly, hasEightBit: hasEightBit) }
                self.discard()
                self.machine.transactionDecided(self.reply(to: answer, id: last.messageID))
            }
        } catch {
            give(up: error)
            machine.transactionDecided(refusal ?? EdgeReply.notKept)
        }
    }

    private func finish(_ assembly: MessageAssembly, hasEightBit: Bool) {
        let row: MessageRow
        do throws(MessageAssembly.Refusal) {
            row = try assembly.finish(hasEightBit: hasEightBit)
        } catch {
            give(up: error)
            machine.transactionDecided(refusal ?? EdgeReply.notKept)
            return
        }
        // From here on the message is the committer's: a client that leaves now takes nothing back.
        self.assembly = nil
        submit(.message(row)) { answer, committer in
            switch answer {
            case .durable:
                self.edge.metrics.accepted.increment()
                self.edge.metrics.acceptedOctets.increment(by: row.size)
                self.edge.logger.debug(
                    "accepted",
                    metadata: ["message_id": "\(row.id)", "tenant": "\(row.tenant)", "size": "\(row.size)"])
                self.answered(row, keptBy: committer)
            case .replayed:
                self.edge.metrics.replayed.increment()
                self.answered(row, keptBy: committer)
            case .unavailable, .storageFull, .overloaded, .unsettled, .atFault:
                if row.isUploaded { committer.abandon(row.id) }
            }
            self.machine.transactionDecided(self.reply(to: answer, id: row.id))
        }
    }

    /// The 250 of a message is about to be written.
    private func answered(_ row: MessageRow, keptBy committer: Committer) {
        acknowledgement.answered(
            row.replayTag, keptBy: committer, hasUnread: context?.channel.hasUnreadOctets ?? false)
    }

    private func submit(_ work: IntakeWork, then next: @escaping (IntakeAnswer, Committer) -> Void) {
        guard let context else { return }
        let loop = context.eventLoop
        let bound = NIOLoopBound((handler: self, next: next), eventLoop: loop)
        isOutstanding = true
        let ticket = IntakeTicket(loop: loop) { answer, committer in
            let (handler, next) = bound.value
            handler.isOutstanding = false
            next(answer, committer)
            handler.turn()
        }
        guard committer.submit(work, ticket: ticket) else {
            isOutstanding = false
            return next(.overloaded, committer)
        }
    }

    private func reply(to answer: IntakeAnswer, id: UUID) -> SMTPReply {
        switch answer {
        case .durable: EdgeReply.queued(id.lowercasedText)
        case .replayed(let first): EdgeReply.queued(first.lowercasedText)
        case .overloaded: EdgeReply.overloaded
        case .storageFull: EdgeReply.storageFull
        case .unavailable, .unsettled, .atFault: EdgeReply.notKept
        }
    }

    /// Forgets the message at hand, and what was uploaded of it.
    func discard() {
        guard let assembly else { return }
        self.assembly = nil
        if let id = assembly.uploadedID { committer.abandon(id) }
    }

    func reject(_ reason: RejectionReason) {
        guard let identity else { return }
        let now = Date()
        _ = edge.committers.choose().submit(
            .rejection(
                RejectionRow(
                    id: UUIDv7.make(at: now), tenant: identity.tenant, at: now, reasonCode: reason.rawValue)),
            ticket: nil)
    }
}

/// Why an edge refused a message, in events.
enum RejectionReason: String {
    case senderNotAllowed = "sender-not-allowed"
    case mailLoop = "mail-loop"
    case bareLineEnd = "bare-line-end"
    case lineTooLong = "line-too-long"
    case sizeExceeded = "size-exceeded"

    init(_ fault: ContentFault) {
        switch fault {
        case .bareCarriageReturn, .bareLineFeed: self = .bareLineEnd
        case .lineTooLong: self = .lineTooLong
        case .tooLarge: self = .sizeExceeded
        }
    }
}
