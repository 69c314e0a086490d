/* A stand-in for NVIDIA's libnvidia-ml.so.1 that answers from a box file instead of a driver.
 *
 * Built against NVIDIA's own nvml.h, so that a wrong signature does not compile. The file is named by
 * DS01_BOX and read anew at every call, and by a wait for events again and again: a test changes it and the
 * "machine" has changed. What the lines mean stands in ds01_spawner/adapters/box.py. Functions that are not here answer NOT_SUPPORTED, from
 * stubs that build.py generates. Answers follow NVIDIA's documentation of each call.
 */
#define _POSIX_C_SOURCE 200809L
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GPUS = 16, PLACES = 9, PROCESSES = 64, XIDS = 256, TEXT = 96, WORDS = 16, LINE = 512 };
enum { POLL_MS = 20, NO_INSTANCE = 0xFFFFFFFF };

enum mode { MIG_NONE, MIG_OFF, MIG_ON };

struct instance {
    char uuid[TEXT], profile[TEXT];
    unsigned gi, ci, slices, memory_mib, present;
};

struct gpu {
    char uuid[TEXT], name[TEXT];
    unsigned memory_mib, max_mig, lost, events, use_gpu, use_memory;
    int major, minor;
    enum mode mig;
    struct instance instances[PLACES];
};

struct process {
    char uuid[TEXT];
    unsigned pid, memory_mib;
};

struct xid {
    unsigned gpu, number;
};

struct box {
    char driver[TEXT];
    int cuda;
    unsigned gpu_count, process_count, xid_count, init_error;
    struct gpu gpus[GPUS];
    struct process processes[PROCESSES];
    struct xid xids[XIDS];
};

/* ---- the box file ------------------------------------------------------------------------------- */

/* Cut a line into words in place; a value in double quotes loses them. -1 when a quote never ends. */
static int split(char *line, char **words) {
    int count = 0;
    char *to = line;
    while (*line && *line != '#') {
        if (strchr(" \t\r\n", *line)) {
            line++;
            continue;
        }
        if (count == WORDS) return -1;
        words[count++] = to;
        while (*line && !strchr(" \t\r\n#", *line)) {
            if (*line != '"') {
                *to++ = *line++;
                continue;
            }
            for (line++; *line != '"'; *to++ = *line++)
                if (!*line) return -1;
            line++;
        }
        int ended = !*line || *line == '#';
        if (!ended) line++;
        *to++ = 0;
        if (ended) break;
    }
    return count;
}

static const char *value(char **words, int count, const char *key) {
    size_t length = strlen(key);
    for (int i = 2; i < count; i++)
        if (!strncmp(words[i], key, length) && words[i][length] == '=') return words[i] + length + 1;
    return "";
}

static unsigned number(char **words, int count, const char *key) {
    return (unsigned)strtoul(value(words, count, key), NULL, 10);
}

static void copy(char *to, const char *from) { snprintf(to, TEXT, "%s", from); }

static int add_gpu(struct box *box, char **words, int count) {
    if (box->gpu_count == GPUS) return 0;
    struct gpu *gpu = &box->gpus[box->gpu_count++];
    const char *mig = value(words, count, "mig");
    copy(gpu->uuid, value(words, count, "uuid"));
    copy(gpu->name, value(words, count, "name"));
    gpu->memory_mib = number(words, count, "memory_mib");
    gpu->max_mig = *value(words, count, "max_mig") ? number(words, count, "max_mig") : 7;
    gpu->lost = number(words, count, "lost");
    gpu->events = *value(words, count, "events") ? number(words, count, "events") : 1;
    gpu->mig = !strcmp(mig, "on") ? MIG_ON : !strcmp(mig, "off") ? MIG_OFF : MIG_NONE;
    return gpu->max_mig <= PLACES && sscanf(value(words, count, "cc"), "%d.%d", &gpu->major, &gpu->minor) == 2;
}

static int add_instance(struct box *box, char **words, int count) {
    unsigned index, place;
    if (sscanf(words[1], "%u:%u", &index, &place) != 2 || index >= box->gpu_count || place >= PLACES) return 0;
    struct instance *instance = &box->gpus[index].instances[place];
    copy(instance->uuid, value(words, count, "uuid"));
    copy(instance->profile, value(words, count, "profile"));
    instance->gi = number(words, count, "gi");
    instance->ci = number(words, count, "ci");
    instance->slices = number(words, count, "slices");
    instance->memory_mib = number(words, count, "memory_mib");
    instance->present = 1;
    return 1;
}

static int add_xid(struct box *box, char **words, int count) {
    struct xid xid = {0};
    if (count < 3 || sscanf(words[2], "%u", &xid.number) != 1 || box->xid_count == XIDS) return 0;
    while (xid.gpu < box->gpu_count && strcmp(box->gpus[xid.gpu].uuid, words[1])) xid.gpu++;
    if (xid.gpu == box->gpu_count) return 0;
    box->xids[box->xid_count++] = xid;
    return 1;
}

static int add_line(struct box *box, char **words, int count) {
    if (!strcmp(words[0], "gpu")) return add_gpu(box, words, count);
    if (!strcmp(words[0], "mig")) return add_instance(box, words, count);
    if (!strcmp(words[0], "xid")) return add_xid(box, words, count);
    if (!strcmp(words[0], "driver")) copy(box->driver, words[1]);
    else if (!strcmp(words[0], "cuda")) box->cuda = atoi(words[1]);
    else if (!strcmp(words[0], "init")) box->init_error = (unsigned)atoi(words[1]);
    else if (!strcmp(words[0], "process") && box->process_count < PROCESSES) {
        struct process *process = &box->processes[box->process_count++];
        copy(process->uuid, words[1]);
        process->pid = number(words, count, "pid");
        process->memory_mib = number(words, count, "memory_mib");
    } else if (!strcmp(words[0], "util") && (unsigned)atoi(words[1]) < box->gpu_count) {
        struct gpu *gpu = &box->gpus[atoi(words[1])];
        gpu->use_gpu = number(words, count, "gpu");
        gpu->use_memory = number(words, count, "memory");
    } else return 0;
    return 1;
}

/* Read the whole box. No file is a machine without a driver; a line that is wrong is an error of NVML. */
static nvmlReturn_t load_box(struct box *box) {
    const char *path = getenv("DS01_BOX");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[LINE], *words[WORDS];
    nvmlReturn_t result = NVML_SUCCESS;
    if (!file) return NVML_ERROR_DRIVER_NOT_LOADED;
    memset(box, 0, sizeof *box);
    while (result == NVML_SUCCESS && fgets(line, sizeof line, file)) {
        int count = split(line, words);
        if (count && (count < 2 || !add_line(box, words, count))) result = NVML_ERROR_UNKNOWN;
    }
    fclose(file);
    return result;
}

/* As NVML counts its starts: it ends when every one of them has been shut down. */
static _Atomic unsigned users;

static nvmlReturn_t read_box(struct box *box) { return users ? load_box(box) : NVML_ERROR_UNINITIALIZED; }

/* ---- handles: a GPU's is its index and a mark, a MIG instance's has its place (from 1) above it ---- */

static const size_t MARK = 0x5a000000;

static nvmlDevice_t handle_of(unsigned gpu, unsigned place) {
    return (nvmlDevice_t)(MARK | (size_t)place << 8 | gpu);
}

static nvmlReturn_t find(struct box *box, nvmlDevice_t handle, struct gpu **gpu, struct instance **instance) {
    size_t bits = (size_t)handle, index = bits & 0xff, place = bits >> 8 & 0xff;
    *instance = NULL;
    nvmlReturn_t result = read_box(box);
    if (result != NVML_SUCCESS) return result;
    if ((bits & ~(size_t)0xffff) != MARK || place > PLACES) return NVML_ERROR_INVALID_ARGUMENT;
    if (index >= box->gpu_count || box->gpus[index].lost) return NVML_ERROR_GPU_IS_LOST;
    *gpu = &box->gpus[index];
    if (!place) return NVML_SUCCESS;
    *instance = &(*gpu)->instances[place - 1];
    return (*instance)->present ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

#define FIND(handle)                                               \
    struct box box;                                                \
    struct gpu *gpu;                                               \
    struct instance *instance;                                     \
    nvmlReturn_t found = find(&box, handle, &gpu, &instance);      \
    if (found != NVML_SUCCESS) return found

static nvmlReturn_t put(char *to, unsigned length, const char *text) {
    return (unsigned)snprintf(to, length, "%s", text) < length ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

/* ---- NVML --------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    struct box box;
    (void)flags;
    nvmlReturn_t result = load_box(&box);
    if (result == NVML_SUCCESS) result = (nvmlReturn_t)box.init_error;
    if (result == NVML_SUCCESS) users++;
    return result;
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    if (!users) return NVML_ERROR_UNINITIALIZED;
    users--;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result) { return result == NVML_SUCCESS ? "Success" : "Error"; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
    struct box box;
    nvmlReturn_t result = read_box(&box);
    return result == NVML_SUCCESS ? put(version, length, box.driver) : result;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    struct box box;
    nvmlReturn_t result = read_box(&box);
    if (result == NVML_SUCCESS) *version = box.cuda;
    return result;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    struct box box;
    nvmlReturn_t result = read_box(&box);
    if (result == NVML_SUCCESS) *count = box.gpu_count;
    return result;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    struct box box;
    nvmlReturn_t result = read_box(&box);
    if (result != NVML_SUCCESS) return result;
    if (index >= box.gpu_count) return NVML_ERROR_INVALID_ARGUMENT;
    if (box.gpus[index].lost) return NVML_ERROR_GPU_IS_LOST;
    *device = handle_of(index, 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    struct box box;
    nvmlReturn_t result = read_box(&box);
    if (result != NVML_SUCCESS) return result;
    for (unsigned i = 0; i < box.gpu_count; i++) {
        unsigned place = 0;
        const char *candidate = box.gpus[i].uuid;
        while (strcmp(candidate, uuid) && place < PLACES) {
            struct instance *instance = &box.gpus[i].instances[place++];
            candidate = instance->present ? instance->uuid : "";
        }
        if (strcmp(candidate, uuid)) continue;
        if (box.gpus[i].lost) return NVML_ERROR_GPU_IS_LOST;
        *device = handle_of(i, place);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    char text[2 * TEXT + 8];
    FIND(device);
    if (!instance) return put(name, length, gpu->name);
    snprintf(text, sizeof text, "%s MIG %s", gpu->name, instance->profile);
    return put(name, length, text);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    FIND(device);
    return put(uuid, length, instance ? instance->uuid : gpu->uuid);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    FIND(device);
    *index = instance ? (unsigned)(instance - gpu->instances) : (unsigned)(gpu - box.gpus);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor) {
    FIND(device);
    if (instance) return NVML_ERROR_NOT_SUPPORTED;
    *minor = (unsigned)(gpu - box.gpus);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    FIND(device);
    *major = gpu->major;
    *minor = gpu->minor;
    return NVML_SUCCESS;
}

static void add_memory(struct box *box, struct gpu *gpu, struct instance *instance, unsigned long long *total,
                       unsigned long long *used) {
    *total = (unsigned long long)(instance ? instance->memory_mib : gpu->memory_mib) << 20;
    *used = 0;
    for (unsigned i = 0; i < box->process_count; i++)
        if (!strcmp(box->processes[i].uuid, instance ? instance->uuid : gpu->uuid))
            *used += (unsigned long long)box->processes[i].memory_mib << 20;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    FIND(device);
    add_memory(&box, gpu, instance, &memory->total, &memory->used);
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    FIND(device);
    add_memory(&box, gpu, instance, &memory->total, &memory->used);
    memory->reserved = 0;
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    FIND(device);
    if (instance || gpu->mig == MIG_ON) return NVML_ERROR_NOT_SUPPORTED;
    utilization->gpu = gpu->use_gpu;
    utilization->memory = gpu->use_memory;
    return NVML_SUCCESS;
}

/* The processes of a device; of a GPU with MIG on, those of its instances too, with their ids. */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *list) {
    FIND(device);
    unsigned size = *count, total = 0;
    for (unsigned i = 0; i < box.process_count; i++) {
        struct process *process = &box.processes[i];
        struct instance *on = instance;
        if (!instance && strcmp(process->uuid, gpu->uuid)) {
            for (on = gpu->instances; on < gpu->instances + PLACES; on++)
                if (on->present && !strcmp(process->uuid, on->uuid)) break;
            if (on == gpu->instances + PLACES) continue;
        } else if (instance && strcmp(process->uuid, instance->uuid)) continue;
        if (total++ < size && list)
            list[total - 1] = (nvmlProcessInfo_t){.pid = process->pid,
                                                  .usedGpuMemory = (unsigned long long)process->memory_mib << 20,
                                                  .gpuInstanceId = on ? on->gi : NO_INSTANCE,
                                                  .computeInstanceId = on ? on->ci : NO_INSTANCE};
    }
    *count = total;
    return total > size ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* ---- MIG ---------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    FIND(device);
    if (instance || gpu->mig == MIG_NONE) return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = gpu->mig == MIG_ON ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_mig) {
    FIND(device);
    *is_mig = instance != NULL;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
    FIND(device);
    *count = gpu->mig == MIG_ON ? gpu->max_mig : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *handle) {
    FIND(device);
    if (instance || gpu->mig == MIG_NONE) return NVML_ERROR_NOT_SUPPORTED;
    if (index >= gpu->max_mig) return NVML_ERROR_INVALID_ARGUMENT;
    if (!gpu->instances[index].present) return NVML_ERROR_NOT_FOUND;
    *handle = handle_of((unsigned)(gpu - box.gpus), index + 1);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device) {
    FIND(mig);
    if (!instance) return NVML_ERROR_INVALID_ARGUMENT;
    *device = handle_of((unsigned)(gpu - box.gpus), 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id) {
    FIND(device);
    if (!instance) return NVML_ERROR_NOT_SUPPORTED;
    *id = instance->gi;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id) {
    FIND(device);
    if (!instance) return NVML_ERROR_NOT_SUPPORTED;
    *id = instance->ci;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    FIND(device);
    if (!instance) return NVML_ERROR_NOT_SUPPORTED;
    *attributes = (nvmlDeviceAttributes_t){.multiprocessorCount = 14 * instance->slices,
                                           .gpuInstanceSliceCount = instance->slices,
                                           .computeInstanceSliceCount = instance->slices,
                                           .memorySizeMB = instance->memory_mib};
    return NVML_SUCCESS;
}

/* ---- events: XIDs only, of whole GPUs ----------------------------------------------------------- */

/* Which GPUs are listened to, as bits, and every report that this set has delivered. */
struct nvmlEventSet_st {
    unsigned registered, told_count;
    struct xid told[4 * XIDS];
};

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    if (!users) return NVML_ERROR_UNINITIALIZED;
    if (!set) return NVML_ERROR_INVALID_ARGUMENT;
    *set = calloc(1, sizeof **set);
    return *set ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    if (!users) return NVML_ERROR_UNINITIALIZED;
    free(set);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    FIND(device);
    *types = !instance && gpu->events ? nvmlEventTypeXidCriticalError : nvmlEventTypeNone;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    FIND(device);
    if (!set) return NVML_ERROR_INVALID_ARGUMENT;
    if (instance || !gpu->events || types & ~nvmlEventTypeXidCriticalError) return NVML_ERROR_NOT_SUPPORTED;
    set->registered |= 1u << (gpu - box.gpus);
    return NVML_SUCCESS;
}

static unsigned count_xids(const struct xid *list, unsigned count, struct xid xid) {
    unsigned found = 0;
    for (unsigned i = 0; i < count; i++) found += list[i].gpu == xid.gpu && list[i].number == xid.number;
    return found;
}

/* The next report that the set has not delivered; then the loss of a GPU, which a real driver tells as long as
 * the set waits for it; else TIMEOUT. */
static nvmlReturn_t next_event(const struct box *box, nvmlEventSet_t set, nvmlEventData_t *data) {
    for (unsigned i = 0; i < box->xid_count; i++) {
        struct xid xid = box->xids[i];
        if (!(set->registered >> xid.gpu & 1)) continue;
        if (count_xids(box->xids, i + 1, xid) <= count_xids(set->told, set->told_count, xid)) continue;
        if (set->told_count == sizeof set->told / sizeof *set->told) return NVML_ERROR_MEMORY;
        set->told[set->told_count++] = xid;
        *data = (nvmlEventData_t){.device = handle_of(xid.gpu, 0),
                                  .eventType = nvmlEventTypeXidCriticalError,
                                  .eventData = xid.number,
                                  .gpuInstanceId = NO_INSTANCE,
                                  .computeInstanceId = NO_INSTANCE};
        return NVML_SUCCESS;
    }
    for (unsigned i = 0; i < box->gpu_count; i++)
        if (set->registered >> i & 1 && box->gpus[i].lost) return NVML_ERROR_GPU_IS_LOST;
    return NVML_ERROR_TIMEOUT;
}

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout_ms) {
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    long long deadline = now_ms() + timeout_ms;
    struct box box;
    if (!set || !data) return NVML_ERROR_INVALID_ARGUMENT;
    for (;;) {
        nvmlReturn_t result = read_box(&box);
        if (result == NVML_SUCCESS) result = next_event(&box, set, data);
        if (result != NVML_ERROR_TIMEOUT || now_ms() >= deadline) return result;
        nanosleep(&pause, NULL);
    }
}
