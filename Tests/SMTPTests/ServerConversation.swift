import NIOCore

@testable import SMTP

/// Drives a server machine as a connection would, and writes down all that came out: replies as lines, events in brackets.
///
/// One password is right (`secret`), mail from `refused.test` and to `refused.test` is refused, content for `full.test` finds no room.
struct ServerConversation {
    struct Message: Equatable {
        var sender: String
        var recipients: [String]
        var content: [UInt8]
        var hasEightBit: Bool
    }

    var options = SMTPServerOptions(hostName: "edge.test", maximumSize: 100_000)
    var isEncrypted = true
    var isKnownNetwork = true

    struct Result: Equatable {
        var lines: [String] = []
        var messages: [Message] = []
        var isClosed = false
        /// Contents that were given up for what was in them.
        var faults = 0

        /// The codes alone: `250 2.1.0`.
        var codes: [String] {
            lines.map { line in
                let words = line.split(separator: " ", maxSplits: 2)
                guard words.count > 1, EnhancedStatusCode(words[1]) != nil else { return String(words[0]) }
                return "\(words[0]) \(words[1])"
            }
        }
    }

    /// Feeds the pieces one by one; a piece that follows a handshake is what the client sends over TLS.
    func run(_ pieces: [[UInt8]]) -> Result {
        var machine = SMTPServerMachine(
            options: options, isEncrypted: isEncrypted, isKnownNetwork: isKnownNetwork)
        var result = Result()
        var open: MailTransaction?
        var content: [UInt8] = []
        for piece in pieces {
            machine.receive(ByteBuffer(bytes: piece))
            var steps = 0
            turning: while !result.isClosed {
                steps += 1
                precondition(steps < 1_000_000, "the machine turns without end")
                switch machine.next() {
                case .needInput: break turning
                case .wait: preconditionFailure("nothing is open")
                case .reply(let reply): result.lines.append(reply.text)
                case .startTLS(let reply):
                    result.lines.append(reply.text)
                    machine.tlsEstablished()
                    break turning
                case .authenticate(let attempt):
                    let isRight = attempt.user == "user" && attempt.password == Array("secret".utf8)
                    machine.authenticationDecided(isRight ? nil : SMTPReply(535, .init(5, 7, 8), "no"))
                case .checkSender(let transaction):
                    let isRefused = transaction.reversePath.address?.lane == "refused.test"
                    machine.senderDecided(isRefused ? SMTPReply(550, .init(5, 7, 1), "not yours") : nil)
                case .checkRecipient(let recipient):
                    machine.recipientDecided(
                        recipient.address.lane == "refused.test" ? SMTPReply(550, .init(5, 1, 2), "no") : nil)
                case .openContent(let transaction):
                    content = []
                    if transaction.recipients.contains(where: { $0.address.lane == "full.test" }) {
                        machine.contentDecided(SMTPReply(452, .init(4, 3, 1), "full"))
                    } else {
                        open = transaction
                        machine.contentDecided(nil)
                    }
                case .content(let slice):
                    precondition(open != nil, "content without a transaction")
                    content += slice.readableBytesView
                case .discardContent(let fault):
                    if fault != nil { result.faults += 1 }
                    open = nil
                case .commitContent(let hasEightBit):
                    guard let transaction = open else { preconditionFailure("commit without content") }
                    result.messages.append(
                        Message(
                            sender: transaction.reversePath.description,
                            recipients: transaction.recipients.map(\.address.description), content: content,
                            hasEightBit: hasEightBit))
                    open = nil
                    machine.transactionDecided(SMTPReply(250, .init(2, 6, 0), "queued"))
                case .close(let reply):
                    if let reply { result.lines.append(reply.text) }
                    result.isClosed = true
                }
            }
        }
        return result
    }

    func run(_ text: String) -> Result { run([Array(text.utf8)]) }
}

/// A small generator with a seed, so that what a random test found can be found again.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Cuts `bytes` into pieces of random length, some of them one octet.
    mutating func split(_ bytes: [UInt8]) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var index = 0
        while index < bytes.count {
            let limit = Bool.random(using: &self) ? 3 : 200
            let end = min(bytes.count, index + Int.random(in: 1...limit, using: &self))
            pieces.append(Array(bytes[index..<end]))
            index = end
        }
        return pieces
    }
}
