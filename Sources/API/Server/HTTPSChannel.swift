// Our TLS handler under Hummingbird's HTTP/1.1.

import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import TLS

/// A child channel that speaks TLS below and HTTP/1.1 above.
struct HTTPSChannel: ServerChildChannel {
    let base: HTTP1Channel
    let context: TLSContext

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<HTTP1Channel.Value> {
        channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(
                TLSHandler(server: context, handshakeTimeout: .seconds(15)))
        }.flatMap { base.setup(channel: channel, logger: logger) }
    }

    func handle(value: HTTP1Channel.Value, logger: Logger) async {
        await base.handle(value: value, logger: logger)
    }
}
