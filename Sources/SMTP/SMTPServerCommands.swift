import NIOCore

/// What each command does in the state at hand (RFC 5321 §4.1.4): a method for every verb.
extension SMTPServerMachine {
    mutating func command(_ line: [UInt8]) -> Action {
        let command: SMTPCommand
        do {
            command = try SMTPCommand.parse(line)
        } catch {
            // How many octets of content follow nobody can tell: they must not be read as commands.
            return error == CommandError(.chunkSyntax) ? close(error.reply) : refuse(error.reply)
        }
        switch command {
        case .ehlo(let name): return greet(name, isExtended: true)
        case .helo(let name): return greet(name, isExtended: false)
        case .startTLS: return startTLS()
        case .auth(let mechanism, let initialResponse):
            return authenticate(mechanism: mechanism, initialResponse: initialResponse)
        case .mail(let path, let parameters): return mail(path, parameters)
        case .rcpt(let path, let parameters): return recipient(path, parameters)
        case .data: return data()
        case .bdat(let octets, let isLast): return chunk(octets: octets, isLast: isLast)
        case .rset:
            resetTransaction()
            return .reply(SMTPReply(250, .init(2, 0, 0), "OK"))
        case .noop: return .reply(SMTPReply(250, .init(2, 0, 0), "OK"))
        case .quit: return close(SMTPReply(221, .init(2, 0, 0), "\(options.hostName) closing connection"))
        case .vrfy:
            return .reply(SMTPReply(252, .init(2, 0, 0), "Cannot VRFY user, send mail and it will be tried"))
        case .expn: return refuse(SMTPReply(502, .init(5, 5, 1), "EXPN is not implemented"))
        case .help:
            return .reply(
                SMTPReply(
                    214, .init(2, 0, 0),
                    "EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"))
        case .unimplemented: return refuse(SMTPReply(502, .init(5, 5, 1), "Command not implemented"))
        }
    }

    private mutating func greet(_ name: String, isExtended extended: Bool) -> Action {
        // RFC 5321 §4.1.4: a second EHLO is a RSET too.
        resetTransaction()
        clientName = name
        isExtended = extended
        guard extended else { return .reply(SMTPReply(250, nil, options.hostName)) }
        var lines = [
            options.hostName, "PIPELINING", "SIZE \(options.maximumSize)", "8BITMIME", "SMTPUTF8", "CHUNKING",
            "DSN", "ENHANCEDSTATUSCODES", "LIMITS RCPTMAX=\(options.maximumRecipients)",
        ]
        if isEncrypted {
            if !isAuthenticated {
                lines.append("AUTH " + AuthenticationExchange.mechanisms.joined(separator: " "))
            }
            lines.append("REQUIRETLS")
        } else if options.offersSTARTTLS {
            lines.append("STARTTLS")
        }
        return .reply(SMTPReply(250, nil, lines: lines))
    }

    // MARK: STARTTLS (RFC 3207)

    private mutating func startTLS() -> Action {
        guard !isEncrypted else { return refuse(SMTPReply(503, .init(5, 5, 1), "TLS is already active")) }
        guard options.offersSTARTTLS else {
            return refuse(SMTPReply(502, .init(5, 5, 1), "TLS is not offered"))
        }
        guard inbound.readableBytes == 0 else {
            // Commands sent in clear ahead of the handshake may be an attacker's (RFC 3207 §5).
            return close(SMTPReply(554, .init(5, 5, 1), "Nothing may follow STARTTLS before the handshake"))
        }
        phase = .startingTLS
        return .startTLS(SMTPReply(220, .init(2, 0, 0), "Ready to start TLS"))
    }

    /// The TLS handshake is complete: the client begins anew (RFC 3207 §4.2).
    public mutating func tlsEstablished() {
        isEncrypted = true
        clientName = nil
        isExtended = false
        isAuthenticated = false
        resetTransaction()
        inbound = ByteBuffer()
        scanned = 0
        if case .startingTLS = phase { phase = .command }
    }

    // MARK: AUTH (RFC 4954)

    private mutating func authenticate(mechanism: String, initialResponse: String?) -> Action {
        guard isEncrypted else {
            return refuse(SMTPReply(538, .init(5, 7, 11), "Encryption is needed for authentication"))
        }
        guard isExtended else { return refuse(SMTPReply(503, .init(5, 5, 1), "Send EHLO first")) }
        guard !isAuthenticated else { return refuse(SMTPReply(503, .init(5, 5, 1), "Already authenticated")) }
        guard transaction == nil else {
            return refuse(SMTPReply(503, .init(5, 5, 1), "No authentication within a transaction"))
        }
        guard var exchange = AuthenticationExchange(mechanism: mechanism) else {
            return refuse(SMTPReply(504, .init(5, 5, 4), "Authentication mechanism not offered"))
        }
        let step = exchange.begin(initialResponse: initialResponse)
        return authenticationOutcome(exchange, step)
    }

    mutating func authenticationStep(_ exchange: AuthenticationExchange, _ line: [UInt8]) -> Action {
        var exchange = exchange
        let step = exchange.respond(line)
        return authenticationOutcome(exchange, step)
    }

    private mutating func authenticationOutcome(
        _ exchange: AuthenticationExchange, _ step: AuthenticationExchange.Step
    ) -> Action {
        switch step {
        case .challenge(let reply):
            phase = .authenticating(exchange)
            return .reply(reply)
        case .failed(let reply):
            phase = .command
            return refuse(reply)
        case .complete(let attempt):
            phase = .awaiting(.authentication)
            return .authenticate(attempt)
        }
    }

    /// The credentials were checked.
    ///
    /// - Parameter refusal: `nil` when they hold; a 4yz reply when they could not be checked; any other refusal is told as
    ///   535 5.7.8, whatever was wrong.
    public mutating func authenticationDecided(_ refusal: SMTPReply?) {
        guard case .awaiting(.authentication) = phase else { return }
        phase = .command
        guard let refusal else {
            isAuthenticated = true
            pending.append(.reply(SMTPReply(235, .init(2, 7, 0), "Authentication succeeded")))
            return
        }
        guard !refusal.isTransientNegative else { return queue(refusal: refusal) }
        authenticationFailures += 1
        if authenticationFailures >= options.maximumAuthenticationFailures {
            _ = close(nil)
            pending = [
                .reply(AuthenticationExchange.refused),
                .close(SMTPReply(421, .init(4, 7, 0), "\(options.hostName) Too many failed authentications")),
            ]
        } else {
            queue(refusal: AuthenticationExchange.refused)
        }
    }

    // MARK: MAIL (RFC 5321 §4.1.1.2)

    private mutating func mail(_ path: ReversePath, _ parameters: MailParameters) -> Action {
        guard clientName != nil else { return refuse(SMTPReply(503, .init(5, 5, 1), "Send EHLO first")) }
        guard transaction == nil else {
            return refuse(SMTPReply(503, .init(5, 5, 1), "A transaction is under way"))
        }
        if options.requiresTLS, !isEncrypted {
            return refuse(SMTPReply(530, .init(5, 7, 0), "Send STARTTLS first"))
        }
        guard isAuthenticated || isKnownNetwork else {
            return refuse(SMTPReply(530, .init(5, 7, 0), "Authentication is needed"))
        }
        guard isExtended || parameters.isEmpty else {
            return refuse(SMTPReply(555, .init(5, 5, 4), "Parameters need EHLO"))
        }
        guard !parameters.requireTLS || isEncrypted else {
            // RFC 8689 §4.1: offered over TLS only.
            return refuse(SMTPReply(530, .init(5, 7, 4), "REQUIRETLS needs TLS"))
        }
        if let address = path.address, !address.isASCII, !parameters.smtpUTF8 {
            return refuse(SMTPReply(550, .init(5, 6, 7), "This address needs SMTPUTF8"))
        }
        if let size = parameters.size, size > options.maximumSize {
            // RFC 1870 §6.1.
            return refuse(
                SMTPReply(552, .init(5, 3, 4), "Larger than the \(options.maximumSize) octets taken here"))
        }
        let asked = MailTransaction(
            reversePath: path, body: parameters.body ?? .sevenBit, smtpUTF8: parameters.smtpUTF8,
            requireTLS: parameters.requireTLS, envelopeID: parameters.envelopeID,
            returnContent: parameters.returnContent, declaredSize: parameters.size)
        phase = .awaiting(.sender(asked))
        return .checkSender(asked)
    }

    /// The sender was judged.
    ///
    /// - Parameter refusal: `nil` when it may send.
    public mutating func senderDecided(_ refusal: SMTPReply?) {
        guard case .awaiting(.sender(let asked)) = phase else { return }
        phase = .command
        if let refusal {
            queue(refusal: refusal)
        } else {
            transaction = asked
            pending.append(.reply(SMTPReply(250, .init(2, 1, 0), "Sender OK")))
        }
    }

    // MARK: RCPT (RFC 5321 §4.1.1.3)

    private mutating func recipient(_ path: ForwardPath, _ parameters: RecipientParameters) -> Action {
        guard let transaction else { return refuse(SMTPReply(503, .init(5, 5, 1), "Send MAIL first")) }
        if case .none = chunking {
        } else {
            return refuse(SMTPReply(503, .init(5, 5, 1), "No recipients after BDAT"))
        }
        guard isExtended || parameters.isEmpty else {
            return refuse(SMTPReply(555, .init(5, 5, 4), "Parameters need EHLO"))
        }
        guard let address = path.address ?? options.postmaster else {
            refusedRecipients += 1
            return refuse(SMTPReply(550, .init(5, 1, 1), "No mailboxes here; give a full address"))
        }
        guard address.isASCII || transaction.smtpUTF8 else {
            refusedRecipients += 1
            return refuse(SMTPReply(553, .init(5, 6, 7), "This address needs SMTPUTF8"))
        }
        guard transaction.recipients.count < options.maximumRecipients else {
            // RFC 5321 §4.5.3.1.10: the client sends the rest in another transaction.
            return .reply(SMTPReply(452, .init(4, 5, 3), "Too many recipients"))
        }
        let asked = EnvelopeRecipient(
            address: address, notify: parameters.notify, originalRecipient: parameters.originalRecipient)
        phase = .awaiting(.recipient(asked))
        return .checkRecipient(asked)
    }

    /// The recipient was judged.
    ///
    /// - Parameter refusal: `nil` when mail may go to it.
    public mutating func recipientDecided(_ refusal: SMTPReply?) {
        guard case .awaiting(.recipient(let asked)) = phase else { return }
        phase = .command
        if let refusal {
            refusedRecipients += 1
            queue(refusal: refusal)
            return
        }
        // The same address twice is one recipient.
        if recipientKeys.insert(asked.address).inserted { transaction?.recipients.append(asked) }
        pending.append(.reply(SMTPReply(250, .init(2, 1, 5), "Recipient OK")))
    }
}
