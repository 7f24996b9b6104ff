"""The bodies of requests as types: every field that may be there, and no other (Docker API 1.45).

`read` gives keys the API's own spelling first, as the engine would, and leaves out what is zero or empty: clients send
every field that they know. What is left over, or of another type, is refused by its name.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.errors import InvalidRequest
from agent.gate.policy import Refused
from agent.gate.strict_json import fold

Texts = dict[str, str]


class Body(BaseModel):
    """Fields have the API's names. `PASSED_OVER` are others that clients send, and that mean nothing here."""

    PASSED_OVER: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NothingBody(Body):
    """A struct{} of Go's: it is there, and has no fields."""


class HealthcheckBody(Body):
    """HealthConfig; times are nanoseconds."""

    Test: list[str] = []
    Interval: int = Field(0, ge=0)
    Timeout: int = Field(0, ge=0)
    StartPeriod: int = Field(0, ge=0)
    StartInterval: int = Field(0, ge=0)
    Retries: int = Field(0, ge=0)


class PortBinding(Body):
    """PortBinding."""

    HostIp: str = ""
    HostPort: str = ""


class RestartPolicyBody(Body):
    """RestartPolicy."""

    Name: Literal["", "no", "always", "on-failure", "unless-stopped"] = ""
    MaximumRetryCount: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _counts_failures(self) -> RestartPolicyBody:
        if self.MaximumRetryCount and self.Name != "on-failure":
            raise ValueError("maximum retry count can only be used with 'on-failure'")
        return self

    @property
    def is_none(self) -> bool:
        """Whether nothing is to be started again."""
        return self.Name in ("", "no")


class LogConfigBody(Body):
    """LogConfig."""

    Type: str = ""
    Config: Texts = {}


class Ulimit(Body):
    """Ulimit."""

    Name: str = ""
    Soft: int = 0
    Hard: int = 0


class BindOptionsBody(Body):
    """MountBindOptions. What is below a mount has no other mounts, so that these are all the same."""

    PASSED_OVER = ("NonRecursive", "ReadOnlyNonRecursive", "ReadOnlyForceRecursive")
    Propagation: str = ""
    CreateMountpoint: bool = False


class DriverBody(Body):
    """Driver."""

    Name: str = ""
    Options: Texts = {}


class VolumeOptionsBody(Body):
    """MountVolumeOptions."""

    NoCopy: bool = False
    Labels: Texts = {}
    DriverConfig: DriverBody | None = None
    Subpath: str = ""


class TmpfsOptionsBody(Body):
    """MountTmpfsOptions."""

    SizeBytes: int = Field(0, ge=0)
    Mode: int = Field(0, ge=0, le=0o1777)


class MountBody(Body):
    """Mount."""

    Type: str = ""
    Source: str = ""
    Target: str = ""
    ReadOnly: bool = False
    Consistency: str = ""
    BindOptions: BindOptionsBody | None = None
    VolumeOptions: VolumeOptionsBody | None = None
    TmpfsOptions: TmpfsOptionsBody | None = None


class UpdateBody(Body):
    """POST /containers/NAME/update: what a container may take, which is in a HostConfig as well."""

    Memory: int = 0
    MemorySwap: int = 0
    MemoryReservation: int = Field(0, ge=0)
    NanoCpus: int = 0
    CpuShares: int = Field(0, ge=0)
    CpuPeriod: int = Field(0, ge=0)
    CpuQuota: int = 0
    CpusetCpus: str = ""
    CpusetMems: str = ""
    BlkioWeight: int = Field(0, ge=0, le=1000)  # passed over: all have the same share
    PidsLimit: int | None = None
    RestartPolicy: RestartPolicyBody | None = None


class HostConfigBody(UpdateBody):
    """HostConfig, without all that reaches the host."""

    # Notes for runtimes, of which some do as they say; and the kernel is to kill what takes too much.
    PASSED_OVER = ("Annotations", "OomKillDisable")
    MemorySwappiness: int | None = None
    OomScoreAdj: int = Field(0, ge=0, le=1000)
    ShmSize: int = Field(0, ge=0)
    AutoRemove: bool = False
    Init: bool | None = None
    ReadonlyRootfs: bool = False
    Binds: list[str] = []
    Mounts: list[MountBody] = []
    Tmpfs: Texts = {}
    VolumesFrom: list[str] = []
    VolumeDriver: str = ""
    Links: list[str] = []
    NetworkMode: str = ""
    PidMode: str = ""
    IpcMode: str = ""
    CgroupnsMode: str = ""
    Isolation: str = ""
    Runtime: str = ""
    PortBindings: dict[str, list[PortBinding] | None] = {}
    PublishAllPorts: bool = False
    Dns: list[str] = []
    DnsOptions: list[str] = []
    DnsSearch: list[str] = []
    ExtraHosts: list[str] = []
    GroupAdd: list[str] = []
    CapAdd: list[str] = []
    CapDrop: list[str] = []
    SecurityOpt: list[str] = []
    Sysctls: Texts = {}
    Ulimits: list[Ulimit] = []
    LogConfig: LogConfigBody | None = None
    ConsoleSize: list[int] = []
    ContainerIDFile: str = ""


class IPAMAddress(Body):
    """EndpointIPAMConfig."""

    IPv4Address: str = ""
    IPv6Address: str = ""
    LinkLocalIPs: list[str] = []


class Endpoint(Body):
    """EndpointSettings, of which clients send back what the engine told them."""

    PASSED_OVER = (
        *("NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen"),
        *("IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DriverOpts"),
    )
    IPAMConfig: IPAMAddress | None = None
    Aliases: list[str] = []
    Links: list[str] = []
    MacAddress: str = ""
    DNSNames: list[str] = []


class NetworkingConfigBody(Body):
    """NetworkingConfig."""

    EndpointsConfig: dict[str, Endpoint | None] = {}


class ContainerBody(Body):
    """POST /containers/create."""

    PASSED_OVER = ("name", "platform")  # dockerode sends the query once more
    Image: str = ""
    Hostname: str = ""
    Domainname: str = ""
    User: str = ""
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    Tty: bool = False
    OpenStdin: bool = False
    StdinOnce: bool = False
    ExposedPorts: dict[str, NothingBody | None] = {}
    Env: list[str] = []
    Cmd: list[str] | str | None = None
    Entrypoint: list[str] | str | None = None
    Healthcheck: HealthcheckBody | None = None
    Volumes: dict[str, NothingBody | None] = {}
    WorkingDir: str = ""
    NetworkDisabled: bool = False
    MacAddress: str = ""
    Labels: Texts = {}
    StopSignal: str = ""
    StopTimeout: int | None = Field(None, ge=0, le=600)  # seconds: the engine waits for it when it ends
    Shell: list[str] = []
    ArgsEscaped: bool = False
    Mounts: list[Any] = []  # what dockertest says besides HostConfig
    HostConfig: HostConfigBody = HostConfigBody()
    NetworkingConfig: NetworkingConfigBody | None = None


class ExecBody(Body):
    """POST /containers/NAME/exec."""

    PASSED_OVER = ("Container", "containerId")  # what docker-py and docker-java say once more
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    DetachKeys: str = ""
    Detach: bool = False
    Tty: bool = False
    Env: list[str] = []
    Cmd: list[str] = []
    WorkingDir: str = ""
    User: str = ""
    ConsoleSize: list[int] = []


class ExecStartBody(Body):
    """POST /exec/ID/start."""

    PASSED_OVER = ("execId", "hijack", "stdin", "stdout", "stderr", "stream")  # dockerode, docker-java
    Detach: bool = False
    Tty: bool = False
    ConsoleSize: list[int] = []


class IPAMConfigBody(Body):
    """IPAMConfig: addresses of the client's choice; see `subnets`."""

    Subnet: str = ""
    IPRange: str = ""
    Gateway: str = ""
    AuxiliaryAddresses: Texts = {}


class IPAMBody(Body):
    """IPAM."""

    Driver: str = ""
    addresses: list[IPAMConfigBody] = Field([], alias="Config")  # a name that pydantic has for itself


class NetworkBody(Body):
    """POST /networks/create."""

    Name: str = ""
    Driver: str = ""
    Scope: str = ""
    CheckDuplicate: bool = False
    Internal: bool = False
    Attachable: bool = False
    EnableIPv4: bool = True  # of newer clients; in API 1.45 there is no other
    EnableIPv6: bool = False
    ConfigFrom: NothingBody | None = None
    IPAM: IPAMBody | None = None
    Options: Texts = {}
    Labels: Texts = {}


class ConnectBody(Body):
    """POST /networks/NAME/connect."""

    PASSED_OVER = ("containerConfig",)  # docker-java
    Container: str = ""
    EndpointConfig: Endpoint | None = None


class DisconnectBody(Body):
    """POST /networks/NAME/disconnect."""

    Container: str = ""
    Force: bool = False


class VolumeBody(Body):
    """POST /volumes/create."""

    Name: str = ""
    Driver: str = ""
    DriverOpts: Texts = {}
    Labels: Texts = {}


M = TypeVar("M", bound=Body)
# Of these an empty value says something: no command but the image's entrypoint, no time at all.
_EMPTY_COUNTS = {"Cmd", "Entrypoint", "StopTimeout"}
# Of these an empty value is not the same as none: it unmasks what the engine hides of /proc.
_EMPTY_MATTERS = {"MaskedPaths", "ReadonlyPaths"}
_EMPTY: tuple[Any, ...] = (None, False, 0, "", [], {})


def read(model: type[M], value: Any) -> M:
    """The body. Raises InvalidRequest for what is no object, Refused for a field that is not taken."""
    if not isinstance(value, dict):
        raise InvalidRequest("the body is no JSON object")
    try:
        return model.model_validate(_spelled(model, value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Refused("field", f"{where} is not for builds") from error
        raise Refused("field", f"{where}: {first['msg']}") from error


def set_of(model: type[Body], value: Any) -> list[str]:
    """Those of the model's fields that a value says something of."""
    known = {*map(fold, model.model_fields)}
    given = value if isinstance(value, dict) else {}
    return [name for name, each in given.items() if fold(name) in known and not is_empty(each)]


def _spelled(model: type[Body], value: dict[str, Any]) -> dict[str, Any]:
    """The same with the API's names, without empty fields, on all levels that have names of the API's."""
    names = {fold(field.alias or name): name for name, field in model.model_fields.items()}
    passed_over = {*map(fold, model.PASSED_OVER)}
    found: dict[str, Any] = {}
    for given, each in value.items():
        if fold(given) in passed_over:
            continue
        name = names.get(fold(given), given)
        if fold(given) in map(fold, _EMPTY_MATTERS):
            if each is not None:
                raise Refused("field", f"HostConfig.{given} is not for builds")
            continue
        spelled = _inner(model.model_fields[name].annotation, each) if name in model.model_fields else each
        known_as = (model.model_fields[name].alias if name in model.model_fields else None) or name
        if name in _EMPTY_COUNTS and each is not None:
            found[known_as] = each
        elif not is_empty(spelled):
            found[known_as] = spelled
    return found


def is_empty(value: Any) -> bool:
    """Whether it is as if it were not there, to the engine."""
    return any(value is empty or (type(value) is type(empty) and value == empty) for empty in _EMPTY)


def _inner(kind: Any, value: Any) -> Any:
    """A value of that type, whose objects have the API's names."""
    model = next((each for each in _members(kind) if isinstance(each, type) and issubclass(each, Body)), None)
    if isinstance(value, dict):
        if model is not None:
            return _spelled(model, value)
        inner = next((get_args(each)[1] for each in _members(kind) if get_origin(each) is dict), Any)
        return {key: _inner(inner, each) for key, each in value.items()}
    if isinstance(value, list):
        inner = next((get_args(each)[0] for each in _members(kind) if get_origin(each) is list), Any)
        return [_inner(inner, each) for each in value]
    return value


def _members(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) in (Union, UnionType):
        return tuple(each for each in get_args(kind) if each is not NoneType)
    return (kind,)
