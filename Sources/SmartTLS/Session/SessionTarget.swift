// Where an outbound session goes and what it may take its time over: the inputs of `OutboundSession.open`.

import NIOCore
import TLS

/// What a session does about TLS. The certificate never fails a handshake here: whoever opened the session judges its
/// evidence before sending anything.
public enum SessionTLS: Sendable {
    /// Stay in clear, whatever is offered.
    case never
    /// STARTTLS where offered, else go on in clear. A handshake that fails ends the session.
    case opportunistic(TLSContext)
    /// STARTTLS or nothing: not even MAIL is sent in clear.
    case required(TLSContext)
}

/// One address of one recipient host.
public struct SessionTarget: Sendable {
    /// The host's name, for people.
    public var hostName: String
    /// Where to connect.
    public var address: SocketAddress
    /// The local address to connect from; nil: the system's choice.
    public var sourceAddress: String?
    /// Our own name in EHLO.
    public var heloName: String
    /// What to do about TLS.
    public var tls: SessionTLS
    /// The name asked for by SNI and looked for in the certificate (`PeerEvidence.nameMatched`); nil: none.
    public var serverName: String?
    /// TLSA records to hold the host against (`PeerEvidence.dane`); nil: none.
    public var dane: DANEReference?

    /// Says where to connect and how.
    public init(
        hostName: String, address: SocketAddress, sourceAddress: String? = nil, heloName: String,
        tls: SessionTLS,
        serverName: String?, dane: DANEReference? = nil
    ) {
        self.hostName = hostName
        self.address = address
        self.sourceAddress = sourceAddress
        self.heloName = heloName
        self.tls = tls
        self.serverName = serverName
        self.dane = dane
    }
}

/// How long a session waits for each step; the defaults are the minimums of RFC 5321 §4.5.3.2, and short bounds where
/// the RFC names none. Each is counted from the reply before, and is found expired at most a quarter of the shortest of them late.
public struct SessionTimeouts: Sendable, Hashable {
    /// For the connection itself.
    public var connect: Duration
    /// For the greeting (§4.5.3.2.1: 5 min).
    public var greeting: Duration
    /// For the answer to EHLO, HELO or STARTTLS.
    public var hello: Duration
    /// For the TLS handshake.
    public var handshake: Duration
    /// For the answer to MAIL or RCPT (§4.5.3.2.2, §4.5.3.2.3: 5 min).
    public var envelope: Duration
    /// For the answer to DATA (§4.5.3.2.4: 2 min).
    public var data: Duration
    /// For all replies together, from the connection to the last EHLO, and again from MAIL to the answer to DATA: a host that takes
    /// its time over each of them holds nobody for days.
    public var beforeContent: Duration
    /// For each block of content to find room (§4.5.3.2.5: 3 min).
    public var contentBlock: Duration
    /// For the answer to the final dot (§4.5.3.2.6: 10 min).
    public var finalDot: Duration
    /// For the answer to QUIT.
    public var quit: Duration

    /// Takes each limit, or its default.
    public init(
        connect: Duration = .seconds(30), greeting: Duration = .seconds(300), hello: Duration = .seconds(300),
        handshake: Duration = .seconds(60), envelope: Duration = .seconds(300),
        data: Duration = .seconds(120), beforeContent: Duration = .seconds(600),
        contentBlock: Duration = .seconds(180), finalDot: Duration = .seconds(600),
        quit: Duration = .seconds(5)
    ) {
        self.connect = connect
        self.greeting = greeting
        self.hello = hello
        self.handshake = handshake
        self.envelope = envelope
        self.data = data
        self.beforeContent = beforeContent
        self.contentBlock = contentBlock
        self.finalDot = finalDot
        self.quit = quit
    }

    /// How often a session looks at its clock.
    var tick: Duration {
        let shortest =
            [greeting, hello, envelope, data, beforeContent, contentBlock, finalDot, quit].min()
            ?? .seconds(15)
        return max(min(shortest / 4, .seconds(15)), .milliseconds(5))
    }
}
