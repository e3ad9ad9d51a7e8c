// zegel timeline: what Patroni runs before a member leads.

import ArgumentParser
import Cluster
import Foundation

struct TimelineCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "timeline",
        abstract: "Claim a timeline for a member that is about to lead.",
        discussion: """
            Patroni runs it, as the user of PostgreSQL, when a member has the lock and before it leads: generated \
            configuration names it as postgresql.pre_promote. It counts one on in etcd, under /zegel/SHARD/timeline, and \
            lets PostgreSQL pass over numbers that other members have claimed and that this one has not heard of. Without \
            it, two members that lead one after the other may begin timelines of the same number, which PostgreSQL, \
            pg_rewind and Patroni take for one.

            It ends with 1, and the member does not lead, when no majority of etcd or not its own Patroni answers within \
            10 s, or when another member follows a later timeline than this one's.

            EXAMPLE
              zegel timeline --shard zegel-a --region r1 --data /var/lib/zegel/a/data \
                --etcd https://192.0.2.1:2379 --etcd https://192.0.2.2:2379 \
                --patroni https://192.0.2.1:8008 --patroni https://192.0.2.2:8008 \
                --authority /etc/zegel/postgres/ca.pem \
                --certificate /etc/zegel/postgres/member.pem --key /etc/zegel/postgres/member.key
            """)

    @Option(name: .long, help: ArgumentHelp("What Patroni calls the shard.", valueName: "scope"))
    var shard: String

    @Option(name: .long, help: ArgumentHelp("The member's region.", valueName: "name"))
    var region: String

    @Option(name: .long, help: ArgumentHelp("PostgreSQL's data folder.", valueName: "dir"))
    var data: String

    @Option(
        name: .long,
        help: ArgumentHelp("A voter of etcd; more than one, the nearest first.", valueName: "url"))
    var etcd: [String]

    @Option(
        name: .long,
        help: ArgumentHelp("The Patroni of a member; one for each, its own among them.", valueName: "url"))
    var patroni: [String]

    @Option(name: .long, help: ArgumentHelp("PEM: who may vouch for them.", valueName: "file"))
    var authority: String

    @Option(name: .long, help: ArgumentHelp("PEM: the member's certificate.", valueName: "file"))
    var certificate: String

    @Option(name: .long, help: ArgumentHelp("PEM: its private key.", valueName: "file"))
    var key: String

    func run() async throws {
        try await reporting {
            let register = try TimelineRegister(
                .init(scope: shard, region: region, data: data), voters: etcd, patronis: patroni,
                identity: MemberIdentity(certificate: certificate, key: key, authority: authority))
            // On standard error: it lands in Patroni's log.
            say("zegel: \(region) leads \(shard) on \(try await register.claim())")
        }
    }
}
