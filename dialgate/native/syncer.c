/* Syncer: fdatasync in a thread that never takes the GIL. Requests for the same file that arrive during a sync share the
   next one, so a slow disk gets fewer syncs. */

#include "primitives.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { AT_ONCE = 1024 };

typedef struct {
    unsigned long long ticket;
    int fd, error; /* the caller keeps `fd` open until `done` returns the ticket */
} Sync;

typedef struct {
    PyObject_HEAD
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked;
    int running, stopping, told_by;
    /* A ring: requests are between `begun` and `taken`, results between `done` and `begun`. */
    Sync syncs[AT_ONCE];
    unsigned done, begun, taken;
} Syncer;

/* Count the requests at the front of the queue for the same file. Their data was already written, so one sync is enough. */
static unsigned together(const Syncer *self)
{
    int first = self->syncs[self->begun % AT_ONCE].fd;
    unsigned count = 1;
    while (self->begun + count != self->taken && self->syncs[(self->begun + count) % AT_ONCE].fd == first)
        count++;
    return count;
}

static void *sync_all(void *given)
{
    Syncer *self = given;
    pthread_mutex_lock(&self->lock);
    for (;;) {
        while (self->begun == self->taken && !self->stopping)
            pthread_cond_wait(&self->asked, &self->lock);
        if (self->begun == self->taken)
            break;
        unsigned count = together(self);
        pthread_mutex_unlock(&self->lock);
        int error = fdatasync(self->syncs[self->begun % AT_ONCE].fd) < 0 ? errno : 0;
        for (unsigned at = self->begun; at != self->begun + count; at++)
            self->syncs[at % AT_ONCE].error = error;
        pthread_mutex_lock(&self->lock);
        self->begun += count;
        uint64_t one = 1;
        while (write(self->told_by, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static PyObject *syncer_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(named))
{
    Syncer *self = (Syncer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->told_by = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->told_by < 0) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->asked, NULL);
    sigset_t all, before; /* signals are handled by the main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&self->thread, NULL, sync_all, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        close(self->told_by);
        Py_DECREF(self);
        errno = failed;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->running = 1;
    return (PyObject *)self;
}

static void end(Syncer *self)
{
    pthread_mutex_lock(&self->lock);
    self->stopping = 1;
    pthread_cond_signal(&self->asked);
    pthread_mutex_unlock(&self->lock);
    Py_BEGIN_ALLOW_THREADS
    pthread_join(self->thread, NULL);
    Py_END_ALLOW_THREADS
    close(self->told_by);
    self->running = 0;
}

static PyObject *refused(void) { return PyErr_Format(PyExc_ValueError, "the syncer is closed"); }

static PyObject *syncer_fileno(Syncer *self, PyObject *Py_UNUSED(nothing))
{
    return self->running ? PyLong_FromLong(self->told_by) : refused();
}

static PyObject *syncer_begin(Syncer *self, PyObject *args)
{
    int fd;
    unsigned long long ticket;
    if (!PyArg_ParseTuple(args, "iK:begin", &fd, &ticket))
        return NULL;
    if (!self->running)
        return refused();
    pthread_mutex_lock(&self->lock); /* held only briefly */
    int full = self->taken - self->done == AT_ONCE;
    if (!full) {
        self->syncs[self->taken++ % AT_ONCE] = (Sync){ticket, fd, 0};
        pthread_cond_signal(&self->asked);
    }
    pthread_mutex_unlock(&self->lock);
    if (full) {
        errno = EAGAIN;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *syncer_done(Syncer *self, PyObject *Py_UNUSED(nothing))
{
    if (!self->running)
        return refused();
    uint64_t count;
    if (read(self->told_by, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR)
        return PyErr_SetFromErrno(PyExc_OSError);
    pthread_mutex_lock(&self->lock);
    unsigned until = self->begun; /* the thread no longer changes entries before it */
    pthread_mutex_unlock(&self->lock);
    PyObject *told = PyList_New(0);
    for (unsigned at = self->done; told != NULL && at != until; at++) {
        Sync *each = &self->syncs[at % AT_ONCE];
        PyObject *pair = Py_BuildValue("(Ki)", each->ticket, each->error);
        if (pair == NULL || PyList_Append(told, pair) < 0)
            Py_CLEAR(told);
        Py_XDECREF(pair);
    }
    if (told != NULL) {
        pthread_mutex_lock(&self->lock);
        self->done = until;
        pthread_mutex_unlock(&self->lock);
    }
    return told;
}

static PyObject *syncer_close(Syncer *self, PyObject *Py_UNUSED(nothing))
{
    if (self->running)
        end(self);
    Py_RETURN_NONE;
}

static void syncer_free(Syncer *self)
{
    if (self->running)
        end(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef syncer_methods[] = {
    {"fileno", (PyCFunction)syncer_fileno, METH_NOARGS, NULL},
    {"begin", (PyCFunction)syncer_begin, METH_VARARGS, NULL},
    {"done", (PyCFunction)syncer_done, METH_NOARGS, NULL},
    {"close", (PyCFunction)syncer_close, METH_NOARGS, NULL},
    {NULL},
};

PyTypeObject syncer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dialgate.native._primitives.Syncer",
    .tp_basicsize = sizeof(Syncer),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = syncer_new,
    .tp_dealloc = (destructor)syncer_free,
    .tp_methods = syncer_methods,
};
