// One request on its way through a connection, and what became of it.

import NIOCore

/// A request handed to a connection's handler. Exactly one outcome follows.
struct Exchange: Sendable {
    let request: HTTPRequest
    let limits: HTTPLimits
    let promise: EventLoopPromise<ExchangeOutcome>
}

/// What became of a request on one connection.
struct ExchangeOutcome: Sendable {
    /// Whether the same request may go out again on another connection.
    enum Repetition: Sendable {
        /// The server may have acted on it and said so.
        case no
        /// Nothing came back: a request that does the same when done twice may.
        case idempotent
        /// The server has said that it did not look at it.
        case any
    }

    var answer: Result<ResponseAssembly.Message, HTTPClientError>
    /// Whether the connection takes another request.
    var isReusable = false
    var repetition = Repetition.no
}

extension HTTPClientError {
    /// What a pipeline reports, in the words of this target.
    init(pipeline error: any Error, _ fallback: Code) {
        switch error {
        case let error as HTTPClientError: self = error
        default: self.init(tls: error, fallback)
        }
    }
}
