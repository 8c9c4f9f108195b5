// SPDX-License-Identifier: GPL-3.0-or-later
// The part of NVRTC that CuPy calls: programs are compiled by a callback into Python, and their "binary"
// names the shared object.  Part of pretended_driver.cpp; cupy_tables.py has CuPy take this library
// for libnvrtc.
#pragma once

enum NvrtcResult : int {
  NVRTC_SUCCESS = 0,
  NVRTC_INVALID_INPUT = 3,
  NVRTC_INVALID_OPTION = 5,
  NVRTC_COMPILATION = 6,
  NVRTC_NAME_NOT_VALID = 10,
};
typedef int (*Compiler)(const char* source, const char* name, int options, const char* const* option,
                        int expressions, const char* const* expression, char* path, char* log, int size);
static Compiler compiler;
API void pretended_set_compiler(Compiler c, Variant v) {
  compiler = c;
  variant = v;
}
static int nvrtc_version[2] = {13, 0};
API void pretended_set_nvrtc(int major, int minor) {
  nvrtc_version[0] = major;
  nvrtc_version[1] = minor;
}

struct Program {
  std::string source, name, image, log;
  std::vector<std::string> expressions;
};
static std::vector<int> architectures() {
  std::vector<int> all = {75, 80, 86, 87, 89, 90, 100, 103, 120, 121};
  if (nvrtc_version[0] < 13) all.insert(all.begin(), {50, 52, 53, 60, 61, 62, 70, 72});
  return all;
}

API const char* nvrtcGetErrorString(int error) {
  switch (error) {
    case NVRTC_SUCCESS:
      return "NVRTC_SUCCESS";
    case NVRTC_INVALID_INPUT:
      return "NVRTC_ERROR_INVALID_INPUT";
    case NVRTC_INVALID_OPTION:
      return "NVRTC_ERROR_INVALID_OPTION";
    case NVRTC_COMPILATION:
      return "NVRTC_ERROR_COMPILATION";
    case NVRTC_NAME_NOT_VALID:
      return "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID";
  }
  return "NVRTC_ERROR";
}
API int nvrtcVersion(int* major, int* minor) {
  *major = nvrtc_version[0];
  *minor = nvrtc_version[1];
  return NVRTC_SUCCESS;
}
API int nvrtcGetNumSupportedArchs(int* n) {
  *n = (int)architectures().size();
  return NVRTC_SUCCESS;
}
API int nvrtcGetSupportedArchs(int* out) {
  auto all = architectures();
  std::copy(all.begin(), all.end(), out);
  return NVRTC_SUCCESS;
}
API int nvrtcCreateProgram(void** out, const char* source, const char* name, int headers, const char* const*,
                           const char* const*) {
  if (headers) return NVRTC_INVALID_INPUT;  // given as text: not supported
  Program* program = new Program;
  program->source = source;
  program->name = name && *name ? name : "default_program";
  *out = program;
  return NVRTC_SUCCESS;
}
API int nvrtcDestroyProgram(void** program) {
  delete (Program*)*program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}
API int nvrtcAddNameExpression(void* program, const char* expression) {
  ((Program*)program)->expressions.push_back(expression);
  return NVRTC_SUCCESS;
}

// True if the option names an architecture that this NVRTC does not know.
static bool unknown_architecture(const std::string& option) {
  if (option.rfind("-arch=", 0) && option.rfind("--gpu-architecture=", 0)) return false;
  int arch = atoi(option.c_str() + option.find('_') + 1);
  auto all = architectures();
  return std::find(all.begin(), all.end(), arch) == all.end();
}
API int nvrtcCompileProgram(void* p, int options, const char* const* option) {
  Program* program = (Program*)p;
  {
    LOCK;
    counts["compile"]++;
  }
  for (int i = 0; i < options; i++) {
    if (!unknown_architecture(option[i])) continue;
    program->log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
    return NVRTC_INVALID_OPTION;
  }
  if (program->source.find("__global__") == std::string::npos) {  // CuPy asks what an empty file gives
    program->image = std::string(MAGIC) + "0 none\n";
    return NVRTC_SUCCESS;
  }
  std::vector<const char*> expressions;
  for (auto& expression : program->expressions) expressions.push_back(expression.c_str());
  std::vector<char> path(4096), log(65536);
  if (!compiler) {
    program->log = "no compiler set: call pretended_cuda.install()";
    return NVRTC_COMPILATION;
  }
  int failed =
      compiler(program->source.c_str(), program->name.c_str(), options, option, (int)expressions.size(),
               expressions.data(), path.data(), log.data(), (int)log.size());
  program->log = log.data();
  program->image = std::string(MAGIC) + path.data() + "\n";
  return failed ? NVRTC_COMPILATION : NVRTC_SUCCESS;
}
API int nvrtcGetLoweredName(void* program, const char* expression, const char** name) {
  for (auto& known : ((Program*)program)->expressions)
    if (known == expression) {
      *name = known.c_str();
      return NVRTC_SUCCESS;
    }
  return NVRTC_NAME_NOT_VALID;
}

static int give_size(const std::string& text, size_t* size) {
  *size = text.size() + 1;
  return NVRTC_SUCCESS;
}
static int give(const std::string& text, char* out) {
  memcpy(out, text.c_str(), text.size() + 1);
  return NVRTC_SUCCESS;
}
API int nvrtcGetProgramLogSize(void* p, size_t* size) { return give_size(((Program*)p)->log, size); }
API int nvrtcGetProgramLog(void* p, char* out) { return give(((Program*)p)->log, out); }
API int nvrtcGetCUBINSize(void* p, size_t* size) { return give_size(((Program*)p)->image, size); }
API int nvrtcGetCUBIN(void* p, char* out) { return give(((Program*)p)->image, out); }
API int nvrtcGetPTXSize(void* p, size_t* size) { return give_size(((Program*)p)->image, size); }
API int nvrtcGetPTX(void* p, char* out) { return give(((Program*)p)->image, out); }
