// What an edge counts. Names and labels hold no personal data, and each label has few values.

import Metrics

/// The metrics of an edge.
struct EdgeMetrics: Sendable {
    let accepted = Counter(label: "zegel_edge_messages_accepted")
    let acceptedOctets = Counter(label: "zegel_edge_octets_accepted")
    let replayed = Counter(label: "zegel_edge_messages_replayed")
    let refusedConnections = Counter(label: "zegel_edge_connections_refused")
    let connectionsOpened = Counter(label: "zegel_edge_connections")
    let openConnections = Gauge(label: "zegel_edge_connections_open")
    let overloads = Counter(label: "zegel_edge_overloads")
    let commits = Counter(label: "zegel_edge_commits")
    let failedCommits = Counter(label: "zegel_edge_commits_failed")
    let unsettledCommits = Counter(label: "zegel_edge_commits_unsettled")
    let splits = Counter(label: "zegel_edge_commits_split")
    /// Messages that went to another shard because theirs was in trouble before it had them.
    let moved = Counter(label: "zegel_edge_messages_moved")
    let withdrawals = Counter(label: "zegel_edge_messages_withdrawn")
    /// Acknowledged replay tags that found no room: until their window ends the same bytes count as a repeat.
    let tagsForgotten = Counter(label: "zegel_edge_replay_tags_forgotten")
    let commitSeconds = Timer(label: "zegel_edge_commit_seconds")
    let batchMessages = Recorder(label: "zegel_edge_batch_messages")
    let authenticated = Counter(label: "zegel_edge_authentications", dimensions: [("outcome", "accepted")])
    let authenticationsFailed = Counter(
        label: "zegel_edge_authentications", dimensions: [("outcome", "refused")])
    let tlsFailures = Counter(label: "zegel_edge_tls_failures")
    let controlAge = Gauge(label: "zegel_edge_control_age_seconds")

    /// A reply with which a transaction or a command was refused.
    func refused(_ code: Int) {
        Counter(label: "zegel_edge_refusals", dimensions: [("code", String(code))]).increment()
    }
}

extension Timer {
    func record(seconds duration: Duration) {
        let parts = duration.components
        recordNanoseconds(parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000)
    }
}
