// What every connection of an edge works with.

import Foundation
import Ledger
import Logging
import NIOCore
import NIOPosix
import Policy
import SMTP
import Sealing
import Settings
import TLS

/// How long a client may be silent (RFC 5321 §4.5.3.2.7 and what it says of the client's side).
struct ClientPatience: Sendable {
    var command = TimeAmount.minutes(5)
    var content = TimeAmount.minutes(3)
}

/// The shared parts of an edge.
struct EdgeContext: Sendable {
    var smtp: SMTPServerOptions
    var tls: TLSContext?
    var networks: [TenantNetwork]
    var control: ControlView
    var keys: EdgeKeys
    var replayKeys: ReplayKeys
    var authenticator: Authenticator
    var committers: ShardCommitters
    var metrics: EdgeMetrics
    var logger: Logger
    var patience = ClientPatience()
}
