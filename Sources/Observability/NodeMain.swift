// How each executable starts and ends: options, settings, hardening, log, services, one human line on failure.
import ArgumentParser
import Foundation
import Logging
import ServiceLifecycle
import Settings

/// The options that every node and every `zegel` command with settings take.
public struct SettingsOptions: ParsableArguments, Sendable {
    /// Path of the configuration file.
    @Option(name: .customLong("config"), help: "YAML configuration file (also ZEGEL_CONFIG).")
    public var config: String?

    /// `key=value`, any number of times.
    @Option(
        name: .customLong("set"), parsing: .unconditionalSingleValue,
        help: "Set one key: --set key=value, any number of times.")
    public var set: [String] = []

    /// For the argument parser.
    public init() {}

    /// Reads all sources.
    ///
    /// - Throws: `SettingsError`.
    public func settings(
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws(SettingsError) -> Settings {
        try Settings(file: config ?? environment["ZEGEL_CONFIG"], environment: environment, assignments: set)
    }
}

private struct NodeCommand: ParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: ProcessInfo.processInfo.processName, version: Release.version)
    }

    @OptionGroup var settings: SettingsOptions

    @Flag(name: .customLong("check"), help: "Print every setting and where it came from, and end.")
    var check = false
}

/// What a node's services are made from.
public struct NodeContext: Sendable {
    /// The executable: `zegel-edge`.
    public let role: String
    /// All settings.
    public let settings: Settings
    /// The settings that every node has.
    public let node: NodeSettings
    /// The node's logger.
    public let logger: Logger
    /// The node's conditions.
    public let readiness: Readiness
    /// The metrics, already behind swift-metrics; for `describe`.
    public let metrics: MetricsRegistry
}

/// The main program of a node.
public enum NodeMain {
    /// Parses the command line, reads the settings, hardens the process, starts log, metrics and status server, and
    /// runs the services until SIGTERM or SIGINT. Services shut down in reverse order, at most
    /// `node.shutdown_grace` long, the status server last; readiness is lost first.
    ///
    /// Exit status: 0 after a shutdown on request, 78 for a broken configuration, 64 for wrong usage, else 1.
    ///
    /// - Parameters:
    ///   - role: the executable's name.
    ///   - validate: builds the role's settings; what it throws also fails `--check`.
    ///   - services: makes the services, in order of start.
    public static func run(
        _ role: String, validate: (Settings) throws -> Void,
        services: (NodeContext) async throws -> [any Service]
    ) async -> Never {
        let command: NodeCommand
        do { command = try NodeCommand.parse() } catch { NodeCommand.exit(withError: error) }
        do {
            let settings = try command.settings.settings()
            if command.check {
                print(settings.report(), terminator: "")
                try validate(settings)
                end(0)
            }
            try validate(settings)
            let unprotected = ProcessHardening.apply()
            ProcessHardening.raiseOpenFileLimit()
            let node = NodeSettings(settings)
            LogBootstrap.start(level: node.logLevel, node: node.name)
            let logger = Logger(label: role)
            for lack in unprotected { logger.warning("\(lack)") }
            let metrics = MetricsRegistry()
            metrics.bootstrap()
            let context = NodeContext(
                role: role, settings: settings, node: node, logger: logger, readiness: Readiness(),
                metrics: metrics)
            try await run(context, services: try await services(context))
            logger.info("ended on request")
            end(0)
        } catch let error as SettingsError {
            fail(role, "\(error)", status: SettingsError.exitCode)
        } catch {
            fail(role, "\(error)", status: 1)
        }
    }

    /// Runs the status server and `services` until a signal.
    static func run(_ context: NodeContext, services: [any Service]) async throws {
        let status = NodeStatusServer(
            listen: context.node.metricsListen, name: context.role, readiness: context.readiness,
            metrics: context.metrics, logger: context.logger)
        let all: [any Service] = [status] + services + [Draining(readiness: context.readiness)]
        var configuration = ServiceGroupConfiguration(
            services: all.map { service in
                // The default name would print the whole service into the log.
                ServiceGroupConfiguration.ServiceConfiguration(
                    service: service, successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .gracefullyShutdownGroup, serviceName: "\(type(of: service))")
            },
            gracefulShutdownSignals: [.sigterm, .sigint], logger: context.logger)
        configuration.maximumGracefulShutdownDuration = context.node.shutdownGrace
        configuration.maximumCancellationDuration = .seconds(10)
        context.logger.info(
            "started", metadata: ["version": "\(Release.version)", "role": "\(context.role)"])
        try await ServiceGroup(configuration: configuration).run()
    }

    private static func fail(_ role: String, _ problem: String, status: Int32) -> Never {
        LogBootstrap.flush()
        let line = "\(role): \(problem)".map { $0.isNewline ? " " : $0 }
        FileHandle.standardError.write(Data((String(line) + "\n").utf8))
        exit(status)
    }

    private static func end(_ status: Int32) -> Never {
        LogBootstrap.flush()
        exit(status)
    }
}

/// Takes readiness away before anything else stops: the last of the services is the first to shut down.
private struct Draining: Service {
    let readiness: Readiness

    func run() async throws {
        try await gracefulShutdown()
        readiness.fail("running", "shutting down")
    }
}
